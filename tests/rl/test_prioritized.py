from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from velodrome.errors import UsageError, VeloError
from velodrome.rl.prioritized import Priorities, SumTree
from velodrome.rl.replay import Field, ReplayBuffer

weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=20).filter(any)


def linear_search(values: list[float], target: float) -> int:
    """The first place whose running sum exceeds the target."""
    return next(i for i, total in enumerate(itertools.accumulate(values)) if total > target)


# Weights 1, 0, 3, 2: running sums 1, 1, 4, 6.
def test_tree_by_hand() -> None:
    tree = SumTree(4)
    tree.set(np.arange(4), np.array([1.0, 0.0, 3.0, 2.0]))
    assert tree.total == 6.0
    assert tree.find(np.array([0.0, 0.99, 1.0, 3.99, 4.0, 5.99])).tolist() == [0, 0, 2, 2, 3, 3]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any), st.data())
def test_find_is_a_search_through_the_running_sums(values: list[int], data: st.DataObject) -> None:
    """Whole numbers, so that both sum exactly."""
    tree = SumTree(len(values))
    tree.set(np.arange(len(values)), np.array(values, np.float64))
    assert tree.total == sum(values)
    target = data.draw(st.integers(0, 2 * sum(values) - 1)) / 2
    assert tree.find(np.array([target])).tolist() == [linear_search([float(v) for v in values], target)]


@given(weights, st.floats(0, 1))
def test_a_place_of_weight_0_is_never_found(values: list[float], fraction: float) -> None:
    tree = SumTree(len(values))
    tree.set(np.arange(len(values)), np.array(values))
    for target in (fraction * tree.total, tree.total, math.nextafter(tree.total, 0.0), 2 * tree.total):
        assert values[int(tree.find(np.array([target]))[0])] > 0.0


@given(weights, st.randoms(use_true_random=False))
def test_the_tree_depends_on_the_weights_alone(values: list[float], random: object) -> None:
    n = len(values)
    at_once, one_by_one = SumTree(n), SumTree(n)
    at_once.set(np.arange(n), np.array(values))
    order = list(range(n))
    random.shuffle(order)  # type: ignore[attr-defined]  # it is a random.Random
    for i in order:
        one_by_one.set(np.array([i]), 7.0)
        one_by_one.set(np.array([i]), np.array([values[i]]))
    assert at_once.total == one_by_one.total
    assert at_once.total == pytest.approx(math.fsum(values))
    assert np.array_equal(at_once.weights, one_by_one.weights)


def test_the_last_of_several_weights_counts() -> None:
    tree = SumTree(3)
    tree.set(np.array([1, 1, 1]), np.array([5.0, 6.0, 2.0]))
    assert tree.total == 2.0
    tree.set(np.array([], np.int64), 1.0)
    assert tree.total == 2.0


# Errors 1 and 4 with alpha 1/2 weigh 1 and 2: probabilities 1/3, 2/3. With beta 1, weights are as 3 to 3/2.
def test_priorities_by_hand() -> None:
    priorities = Priorities(4, alpha=0.5, eps=0.0)
    priorities.insert(np.array([0, 1]))
    priorities.update(np.array([0, 1]), torch.tensor([1.0, -4.0]))
    draw = priorities.sample(3000, np.random.default_rng(0), beta=1.0)
    assert np.bincount(draw.places).tolist() == [1000, 2000]  # one from each of 3,000 equal ranges
    np.testing.assert_allclose(draw.weights.numpy(), np.where(draw.places == 0, 1.0, 0.5))
    assert priorities.sample(10, np.random.default_rng(0), beta=0.0).weights.tolist() == [1.0] * 10


def test_new_transitions_get_the_largest_priority_so_far() -> None:
    priorities = Priorities(6, alpha=1.0, eps=0.0)
    priorities.insert(np.array([0]))
    priorities.update(np.array([0]), torch.tensor([8.0]))
    priorities.update(np.array([0]), torch.tensor([2.0]))
    priorities.insert(np.array([1]))
    draw = priorities.sample(1000, np.random.default_rng(0), beta=0.0)
    assert np.bincount(draw.places).tolist() == [200, 800]


def test_with_a_buffer_only_what_is_stored_is_drawn() -> None:
    rng, num_envs, capacity = np.random.default_rng(0), 2, 5
    buffer = ReplayBuffer(capacity, num_envs, Field((), torch.float32), Field((), torch.float32))
    priorities = Priorities((capacity + 1) * num_envs)
    none = np.zeros(num_envs, np.bool_)
    for t in range(17):
        obs = torch.full((num_envs,), float(t))
        priorities.insert(buffer.add(obs, obs, obs.numpy(), none, none, obs + 1, obs))
        draw = priorities.sample(64, rng, beta=0.4)
        batch = buffer.gather(draw.places, gamma=1.0)
        assert set(batch.obs.tolist()) <= set(range(max(0, t - capacity + 1), t + 1))
        assert torch.equal(batch.next_obs, batch.obs + 1)
        priorities.update(draw.places, torch.from_numpy(rng.random(64)))
    assert set(batch.obs.tolist()) == set(range(12, 17))


def test_state_comes_back_and_goes_on_bit_for_bit() -> None:
    one, two, rng = Priorities(20), Priorities(20), np.random.default_rng(0)
    for start in range(0, 16, 4):
        one.insert(np.arange(start, start + 4))
        one.update(np.arange(start, start + 4), torch.from_numpy(rng.normal(size=4)))
    two.load_state(one.state())
    for priorities in (one, two):
        priorities.insert(np.arange(16, 20))
    left, right = (priorities.sample(50, np.random.default_rng(1), beta=0.5) for priorities in (one, two))
    assert np.array_equal(left.places, right.places)
    assert torch.equal(left.weights, right.weights)


def test_what_priorities_refuse() -> None:
    priorities = Priorities(4)
    with pytest.raises(UsageError, match="nothing to draw"):
        priorities.sample(1, np.random.default_rng(0), beta=0.5)
    with pytest.raises(VeloError, match=r"not finite[\s\S]*nan"):
        priorities.update(np.array([0, 1]), torch.tensor([1.0, math.nan]))
    with pytest.raises(UsageError, match="of other priorities"):
        Priorities(5).load_state(priorities.state())
