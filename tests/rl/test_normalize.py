from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velodrome.errors import VeloError
from velodrome.rl.normalize import Moments, ObservationNormalizer, RewardNormalizer

seeds = st.integers(0, 2**32 - 1)


# 1, 2, 3, 4, 10: mean 4, squared deviations 9 + 4 + 1 + 0 + 36 = 50, variance 10.
def test_moments_by_hand() -> None:
    moments = Moments.empty().update([1.0, 2.0]).update([3.0, 4.0, 10.0])
    assert (moments.count, float(moments.mean), float(moments.m2)) == (5, 4.0, 50.0)
    assert float(moments.variance) == 10.0


@given(seeds, st.lists(st.integers(0, 6), min_size=1, max_size=6), st.sampled_from([0.0, 1.0, 1e8]))
def test_moments_do_not_depend_on_the_batches(seed: int, sizes: list[int], offset: float) -> None:
    """Even where the mean is 1e8 times the deviation: a sum of squares would have no correct digit left."""
    data = np.random.default_rng(seed).normal(size=(sum(sizes), 3)) + offset
    moments, parts = Moments.empty((3,)), []
    for batch in np.split(data, np.cumsum(sizes)[:-1]):
        moments = moments.update(batch)
        parts.append(Moments.empty((3,)).update(batch))
    merged = Moments.empty((3,))
    for part in reversed(parts):
        merged = merged.merge(part)
    if not len(data):
        assert (moments.count, merged.count) == (0, 0)
        return
    for got in (moments, merged):
        assert got.count == len(data)
        np.testing.assert_allclose(got.mean, data.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(got.variance, data.var(0), rtol=1e-6, atol=1e-12)


@given(seeds)
def test_time_and_environments_are_flattened(seed: int) -> None:
    data = np.random.default_rng(seed).normal(size=(4, 2, 3)).astype(np.float32)
    moments = Moments.empty((3,)).update(data)
    assert moments.count == 8
    assert moments.mean.dtype == np.float64
    np.testing.assert_allclose(moments.variance, data.reshape(8, 3).astype(np.float64).var(0))


def test_an_update_changes_nothing_that_was_there() -> None:
    before = ObservationNormalizer(Moments.empty((2,)).update([[0.0, 0.0], [2.0, 4.0]]))
    frozen = before.normalize([[1.0, 6.0]])
    after = before.update([[100.0, 100.0]])
    np.testing.assert_array_equal(before.normalize([[1.0, 6.0]]), frozen)
    assert not np.array_equal(after.normalize([[1.0, 6.0]]), frozen)


# Means 1 and 2, deviations 1 and 2: (1, 6) becomes (0, 2); (1000, 2) is clipped to (10, 0).
def test_observations_by_hand() -> None:
    normalizer = ObservationNormalizer(Moments.empty((2,)).update([[0.0, 0.0], [2.0, 4.0]]))
    got = normalizer.normalize([[1.0, 6.0], [1000.0, 2.0]])
    np.testing.assert_allclose(got, [[0.0, 2.0], [10.0, 0.0]], atol=1e-6)
    assert got.dtype == np.float32


def test_observations_before_anything_was_seen_and_without_variance() -> None:
    empty = ObservationNormalizer(Moments.empty((1,)))
    assert empty.normalize([[3.0]]).tolist() == [[3.0]]
    constant = empty.update([[5.0], [5.0]])
    assert constant.normalize([[5.0]]).tolist() == [[0.0]]
    assert constant.normalize([[6.0]]).tolist() == [[10.0]]


# Rewards 1, 1 | 3 (the second step ends its episode), gamma 0.5: running returns 1, 1.5, 3.
#   mean 11/6, variance (1 + 2.25 + 9) / 3 - (11/6)^2 = 0.7222222; a reward of 1 becomes 1 / 0.8498366 = 1.1766968
def test_rewards_by_hand() -> None:
    normalizer = RewardNormalizer.empty(1, gamma=0.5)
    for r, done in ((1.0, False), (1.0, True), (3.0, False)):
        normalizer = normalizer.update([r], [done])
    assert normalizer.returns.tolist() == [3.0]
    assert float(normalizer.moments.variance) == pytest.approx(0.7222222, abs=1e-7)
    assert normalizer.normalize([1.0]).tolist() == pytest.approx([1.1766968], abs=1e-6)
    assert normalizer.normalize([-1e6]).tolist() == [-10.0]


@given(seeds, st.integers(1, 4), st.integers(1, 30))
def test_running_returns_written_out(seed: int, envs: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, done = rng.normal(size=(steps, envs)), rng.random((steps, envs)) < 0.2
    normalizer, seen = RewardNormalizer.empty(envs, gamma=0.9), []
    for t in range(steps):
        normalizer = normalizer.update(rewards[t], done[t])
    for n in range(envs):
        running = 0.0
        for t in range(steps):
            running = 0.9 * running + rewards[t, n]
            seen.append(running)
            running = 0.0 if done[t, n] else running
    assert normalizer.moments.count == steps * envs
    assert float(normalizer.moments.variance) == pytest.approx(np.var(seen))


@given(seeds)
def test_state_comes_back_to_the_last_bit_and_goes_on_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    observations = ObservationNormalizer(Moments.empty((3,)), clip=5.0, eps=1e-6).update(rng.normal(size=(7, 3)))
    rewards = RewardNormalizer.empty(2, gamma=0.97).update(rng.normal(size=2), [True, False])
    obs, r = rng.normal(size=(4, 3)), rng.normal(size=2)
    again = ObservationNormalizer.from_state(observations.state())
    assert (again.clip, again.eps) == (5.0, 1e-6)
    np.testing.assert_array_equal(again.update(obs).normalize(obs), observations.update(obs).normalize(obs))
    np.testing.assert_array_equal(again.update(obs).moments.m2, observations.update(obs).moments.m2)
    one, two = RewardNormalizer.from_state(rewards.state()).update(r, [False, True]), rewards.update(r, [False, True])
    for name, value in two.state().items():
        np.testing.assert_array_equal(one.state()[name], value)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(VeloError, match=rf"not finite[\s\S]*{bad} in row 1, place \[0\]"):
        Moments.empty((2,)).update([[0.0, 0.0], [bad, 0.0]])
