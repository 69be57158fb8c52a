"""Environments as users write them, good ones and bad ones, for the tests of the adapter."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Counter(gym.Env):
    """Observation: [number of the episode, step in it, noise]; ends after ``length`` steps, reward 1 + noise."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(3, start=1)

    def __init__(self, length: int = 4, truncates: bool = False) -> None:
        self.length, self.truncates = length, truncates
        self.episode = -1
        self.actions: list[Any] = []

    def _obs(self) -> np.ndarray:
        return np.array([self.episode, self.t, self.np_random.random()], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.episode = -1
        self.episode += 1
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.t += 1
        ended = self.t >= self.length
        reward = 10.0 * float(np.sum(action)) + self.t
        return self._obs(), reward, ended and not self.truncates, ended and self.truncates, {"score": 2.0 * self.t}


class Nested(gym.Env):
    """Every kind of leaf."""

    observation_space = spaces.Dict({
        "image": spaces.Box(0, 255, (2, 3), np.uint8),
        "where": spaces.Tuple([spaces.Discrete(3, start=-1), spaces.Box(-1, 1, (2,), np.float32)]),
        "bits": spaces.MultiBinary(4),
        "dice": spaces.MultiDiscrete([2, 3]),
    })
    action_space = spaces.MultiDiscrete([2, 3])

    def _obs(self) -> Any:
        rng = self.np_random
        return {
            "image": rng.integers(0, 256, (2, 3), np.uint8),
            "where": (int(rng.integers(-1, 2)), rng.uniform(-1, 1, 2).astype(np.float32)),
            "bits": rng.integers(0, 2, 4, np.int8),
            "dice": rng.integers(0, [2, 3]),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        return self._obs(), 0.0, False, bool(self.np_random.random() < 0.2), {}


class Masked(Counter):
    """Only action 1 + t % 3 is allowed."""

    def _info(self) -> dict[str, Any]:
        mask = np.zeros(3, np.int8)
        mask[self.t % 3] = 1
        return {"action_mask": mask}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0], self._info()

    def step(self, action: Any) -> Any:
        assert action == 1 + self.t % 3
        return *super().step(action)[:4], self._info()


class Box2(Counter):
    """A Box action; the reward is its sum, so that clipping shows."""

    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, float(action.sum()), terminated, truncated, info

    def __str__(self) -> str:
        return "Box2"


class Bits(Counter):
    action_space = spaces.MultiBinary(3)

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.t += 1
        return self._obs(), float(action.sum()), self.t >= self.length, False, {}


class Raises(Counter):
    def step(self, action: Any) -> Any:
        if self.t == 2:
            raise ZeroDivisionError("the user's own mistake")
        return super().step(action)


class TurnsNaN(Counter):
    """NaN in the third step."""

    def _obs(self) -> np.ndarray:
        obs = super()._obs()
        obs[1] = np.nan if self.t == 3 else obs[1]
        return obs


class Dies(Counter):
    """Its process is killed in step 3 of the first episode, once: ``marker`` says that it has happened."""

    def __init__(self, marker: str, how: str = "dies") -> None:
        super().__init__(length=5)
        self.marker, self.how = marker, how

    def step(self, action: Any) -> Any:
        if self.t == 2 and self._is_first():
            if self.how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()
        return super().step(action)

    def _is_first(self) -> bool:
        """Whether this is the first of all processes to come here."""
        try:
            Path(self.marker).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class AlwaysDies(Counter):
    def step(self, action: Any) -> Any:
        os._exit(3)


class Lives(Counter):
    """Three lives of two steps each."""

    def __init__(self) -> None:
        super().__init__(length=6)

    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, _ = super().step(action)
        return obs, 5.0, terminated, truncated, {"lives": 3 - self.t // 2}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0], {"lives": 3}


class Zero(Lives):
    """``Lives`` with an action 0, which ``EpisodicLife`` takes."""

    action_space = spaces.Discrete(2)
