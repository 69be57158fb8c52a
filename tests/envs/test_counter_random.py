"""Philox against the known answers of its authors, and what the streams promise."""

from __future__ import annotations

import numpy as np
import pytest

from velodrome.envs.simulators.counter_random import DRAWS, philox4x32, uniform_pair
from velodrome.envs.simulators.trigonometry import sin_cos

ONES = "ffffffff"
# philox4x32 with 10 rounds, from kat_vectors of Random123: counter, key, result
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (f"{ONES} {ONES} {ONES} {ONES}", f"{ONES} {ONES}", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_philox_gives_the_known_answers(counter: str, key: str, result: str) -> None:
    words = [np.uint64(int(word, 16)) for word in f"{counter} {key}".split()]
    assert [f"{int(word):08x}" for word in philox4x32(*words)] == result.split()


def streams(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    keys = np.stack([np.full(n, seed, np.uint64), np.arange(n, dtype=np.uint64)])
    return keys, np.zeros((3, n), np.int64)


def test_draws_are_uniform_and_independent() -> None:
    keys, counts = streams(200)
    draws = np.array([uniform_pair(keys, counts, i) for _ in range(100) for i in range(200)])
    assert (draws >= 0).all()
    assert (draws < 1).all()
    assert (counts[DRAWS] == 100).all()
    assert len(np.unique(draws)) == draws.size
    shares = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert ((shares - 2000) ** 2 / 2000).sum() < 45  # chi-square with 19 degrees: above 43.8 in 1 of 1,000
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("change", ["seed", "high seed", "stream", "episode", "high episode", "draw"])
def test_every_part_of_the_counter_matters(change: str) -> None:
    keys, counts = streams(1)
    before = uniform_pair(keys, counts, 0)
    keys, counts = streams(1)
    if change.endswith("seed"):
        keys[0, 0] += np.uint64(1 if change == "seed" else 2**32)
    elif change == "stream":
        keys[1, 0] += np.uint64(1)
    elif change.endswith("episode"):
        counts[0, 0] += 1 if change == "episode" else 2**32
    else:
        counts[1, 0] += 1
    after = uniform_pair(keys, counts, 0)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_sine_and_cosine_are_right_to_the_last_bit_or_so() -> None:
    rng = np.random.default_rng(0)
    grid = np.concatenate([rng.uniform(-w, w, 20_000) for w in (0.5, 4, 100, 1e5)])
    grid = np.concatenate([grid, np.arange(-40, 41) * np.pi / 4, [0.0, -0.0, 1e-300]])
    ours = np.array([sin_cos(x) for x in grid])
    assert abs(ours[:, 0] - np.sin(grid)).max() < 2.3e-16
    assert abs(ours[:, 1] - np.cos(grid)).max() < 2.3e-16
    assert np.isnan(sin_cos(np.nan)).all()
