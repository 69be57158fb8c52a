"""Random streams by name: every use of chance gets its own, derived from the study's seed and nothing else.

``derive(seed, "trial", 12)`` does not depend on how many streams were drawn before, on the machine, or on the number
of workers, so a trial's seed is the same in every run of its study.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def derive(root: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the stream called ``names`` under ``root`` (BLAKE2b of both)."""
    return int.from_bytes(_digest(root, names, 8), "little") >> 1


def generator(root: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator (Philox, keyed by the BLAKE2b of both) for the stream called ``names`` under ``root``."""
    return _make_generator()(_digest(root, names, 16))


def _digest(root: int, names: tuple[str | int, ...], size_bytes: int) -> bytes:
    text = "\x1f".join(map(str, (root, *names)))
    return hashlib.blake2b(text.encode(), digest_size=size_bytes).digest()


@cache
def _make_generator() -> Callable[[bytes], np.random.Generator]:
    """Makes a generator from a 16-byte key: a third of the time that ``Philox(key=...)`` takes."""
    import numpy as np

    class Key(np.random.bit_generator.ISeedSequence):
        def __init__(self, key: bytes) -> None:
            self._words = np.frombuffer(key, np.uint64)

        def generate_state(self, n_words: int, dtype: object = np.uint32) -> np.ndarray[Any, Any]:
            return self._words

    return lambda key: np.random.Generator(np.random.Philox(Key(key)))  # type: ignore[arg-type]  # any ISeedSequence


def trial_seed(study_seed: int, number: int) -> int:
    """The seed that trial ``number`` sees as ``trial.seed``: in [0, 2**31), which every library accepts."""
    return derive(study_seed, "trial", number) & 0x7FFF_FFFF
