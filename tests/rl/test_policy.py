"""Policies for every kind of action and observation, their parameters in one buffer, and the evaluation of one."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.rl.runs import training_for
from velodrome.envs.adapter import make_envs
from velodrome.errors import UsageError
from velodrome.rl.evaluate import evaluate
from velodrome.rl.flat import flatten

SMALL = {"num_envs": 2, "num_steps": 8, "epochs": 2, "minibatches": 2}


class Room(gym.Env[Any, Any]):
    """Any spaces; observations at random, three steps an episode, reward 1 to 3."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space, self.t = observation_space, action_space, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.t += 1
        return self.observation_space.sample(), float(self.t), self.t == 3, False, {}


VECTOR = spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize("action_space", [
    spaces.Discrete(4), spaces.Discrete(3, start=5), spaces.MultiDiscrete([2, 5]),
    spaces.MultiDiscrete([[2, 3], [4, 2]]), spaces.MultiBinary(3),
    spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-2, 2, (2, 2), np.float64),
], ids=str)
def test_every_kind_of_action_is_taken_and_learnt_from(action_space: spaces.Space[Any]) -> None:
    with make_envs(lambda: Room(VECTOR, action_space), 2) as envs:
        training = training_for(envs, SMALL)
        before = training.learner.weights.detach().clone()
        figures = training.update()
        assert all(math.isfinite(value) for value in figures.values())
        assert figures["return"] == 6.0
        assert figures["length"] == 3.0
        assert not torch.equal(training.learner.weights, before)


@pytest.mark.parametrize(("shape", "dtype"), [
    ((84, 84, 3), np.uint8), ((4, 84, 84), np.uint8), ((10, 10, 4), np.int8), ((2, 12, 10), np.float32),
])
def test_images_go_through_convolutions(shape: tuple[int, ...], dtype: Any) -> None:
    space = spaces.Box(0, 255 if dtype is np.uint8 else 1, shape, dtype)
    with make_envs(lambda: Room(space, spaces.Discrete(3)), 2) as envs:
        training = training_for(envs, SMALL)
        assert training.policy.spec.is_image
        kernel = next(p for p in training.policy.trunk.parameters() if p.dim() == 4)
        assert kernel.is_contiguous(memory_format=torch.channels_last)
        before = kernel.detach().clone()
        training.update()
        assert not torch.equal(kernel, before)
        assert kernel.untyped_storage().data_ptr() == training.learner.weights.untyped_storage().data_ptr()


def test_a_cnn_refuses_vectors() -> None:
    given = {**SMALL, "network": "cnn"}
    with make_envs(Ends, 2) as envs, pytest.raises(UsageError, match="needs images"):
        training_for(envs, given)


def test_flattened_parameters_are_views_with_their_values() -> None:
    conv = torch.nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last)
    net = torch.nn.Sequential(conv, torch.nn.Flatten(), torch.nn.Linear(12, 2))
    x = torch.randn(4, 2, 3, 3)
    expected = net(x).detach()
    expected_grads = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    whole = flatten(net)
    torch.testing.assert_close(net(x).detach(), expected)
    net(x).square().sum().backward()
    assert whole.grad is not None
    for p, grad in zip(net.parameters(), expected_grads, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, grad)
        assert p.grad.untyped_storage().data_ptr() == whole.grad.untyped_storage().data_ptr()
    squares = torch.stack([grad.square().sum() for grad in expected_grads])
    torch.testing.assert_close(whole.grad.square().sum(), squares.sum())
    with torch.no_grad():
        whole.zero_()
    assert not net(x).any()


class Ends(gym.Env[Any, Any]):
    """Action 1 ends the episode with 1; action 0 goes on, with 1 a step, until the third."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.zeros(1, np.float32), 1.0, action == 1 or self.t == 3, False, {}


@pytest.mark.parametrize("episodes", [1, 7, 20])
def test_an_evaluation_counts_as_many_episodes_as_asked_for_and_favours_no_short_ones(episodes: int) -> None:
    with make_envs(Ends, 2) as envs:
        policy = training_for(envs, SMALL).policy
    with torch.no_grad():
        policy.head.weights[-1].zero_()
    with make_envs(Ends, min(episodes, 3)) as arena:
        drawn = evaluate(policy, arena, episodes=episodes, deterministic=False)
        assert drawn.returns.shape == drawn.lengths.shape == (episodes,)
        assert (evaluate(policy, arena, episodes=episodes).returns == 3.0).all()
    if episodes == 20:
        with make_envs(Ends, 100) as arena:
            many, again = (evaluate(policy, arena, episodes=600, deterministic=False) for _ in range(2))
        assert many.mean == pytest.approx(1.75, abs=4 * 0.83 / math.sqrt(600))  # 1/2 * 1 + 1/4 * 2 + 1/4 * 3
        assert (again.returns == many.returns).all()


def test_what_a_policy_normalises_by_is_frozen_while_it_is_evaluated() -> None:
    with make_envs("Pendulum-v1", 2) as envs:
        training = training_for(envs, {**SMALL, "normalize_obs": True})
        training.update()
        before = training.policy.sight.normalizer
        assert before is not None
        assert before.moments.count == 2 * 8 + 2
        evaluate(training.policy, envs, episodes=2)
        assert training.policy.sight.normalizer is before
