"""Random numbers by counter: a pure function of (seed, stream, episode, draw), with no state but the counters.

Every environment has its own stream, so what it draws depends neither on the other environments of its batch, nor on
threads, nor on how many numbers another episode took. The function is Philox4x32-10 (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011), the seed its key and the rest its counter.

Kernels draw by ``uniform_pair(keys, counts, i)``:

- ``keys`` uint64 ``[2, N]``: the seed and the stream of each environment, in ``[0, 2**64)`` and ``[0, 2**32)``.
- ``counts`` int64 ``[3, N]``: its episode (from 0), the draws of this episode so far, and the episode's length. A draw
  adds 1 to the second row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from velodrome.envs.simulators.kernel import kernel

SEED, STREAM = 0, 1
EPISODE, DRAWS, LENGTH = 0, 1, 2

_LOW = np.uint64(0xFFFF_FFFF)
_32 = np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # multipliers and Weyl constants of table 2 of the paper
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_5, _6 = np.uint64(5), np.uint64(6)

Words = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


@kernel
def philox4x32(c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64) -> Words:
    """Four random 32-bit words (in uint64) from a counter of four and a key of two such words."""
    for _ in range(10):
        first, second = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (second >> _32) ^ c1 ^ k0, second & _LOW, (first >> _32) ^ c3 ^ k1, first & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@kernel
def uniform_pair(keys: NDArray[np.uint64], counts: NDArray[np.int64], i: int) -> tuple[float, float]:
    """Two independent numbers in [0, 1), 53 bits each: the next draw of environment ``i``."""
    seed, stream, episode = keys[SEED, i], keys[STREAM, i], np.uint64(counts[EPISODE, i])
    draw = np.uint64(counts[DRAWS, i])
    counts[DRAWS, i] += 1
    a, b, c, d = philox4x32(draw & _LOW, episode & _LOW, stream & _LOW, episode >> _32, seed & _LOW, seed >> _32)
    return _unit(a, b), _unit(c, d)


@kernel
def _unit(a: Any, b: Any) -> float:
    return (float(a >> _5) * 67108864.0 + float(b >> _6)) * (1.0 / 9007199254740992.0)
