"""States of environments that nothing else has: spaces' generators, and the seal."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from velodrome.envs.adapter import make_envs


class Sampler(gym.Env[Any, Any]):
    """Draws its observations from its own space."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Discrete(50)})
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize("mode", ["sync", "process"])
def test_the_generators_of_spaces_are_part_of_the_state(mode: Any) -> None:
    actions = np.zeros(2, np.int64)
    with make_envs(Sampler, 2, seed=1, mode=mode) as envs:
        envs.reset()
        envs.step(actions)
        state = envs.get_state()
        assert state["exact"]
        expected = [envs.step(actions).obs.copy() for _ in range(5)]
    with make_envs(Sampler, 2, seed=9, mode=mode) as envs:
        envs.reset()
        assert envs.set_state(state) == ""
        for obs in expected:
            np.testing.assert_array_equal(envs.step(actions).obs, obs)


@pytest.mark.parametrize("mode", ["sync", "process"])
def test_a_state_that_was_changed_is_never_unpickled(mode: Any) -> None:
    with make_envs("CartPole-v1", 2, seed=1, mode=mode) as envs:
        envs.reset()
        state = envs.get_state()
        changed = bytearray(state["envs"][1]["sealed"])
        changed[-3] ^= 1
        state["envs"][1]["sealed"] = bytes(changed)
        assert "sealed by another user" in envs.set_state(state)
        assert np.abs(envs.obs).max() <= 0.05  # new episodes
        envs.step(np.zeros(2, np.int64))
