"""Random streams by name: every use of chance gets its own, derived from the study's seed and nothing else.

``derive(seed, "trial", 12)`` does not depend on how many streams were drawn before, on the machine, or on the number
of workers, so a trial's seed is the same in every run of its study.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive(root: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the stream called ``names`` under ``root`` (BLAKE2b of both)."""
    text = "\x1f".join(map(str, (root, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(root: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator (Philox, whose key is the derived seed) for the stream called ``names`` under ``root``."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=derive(root, *names)))


def trial_seed(study_seed: int, number: int) -> int:
    """The seed that trial ``number`` sees as ``trial.seed``: in [0, 2**31), which every library accepts."""
    return derive(study_seed, "trial", number) & 0x7FFF_FFFF
