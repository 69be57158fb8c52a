"""The wrappers that Atari alone needs: random beginnings, frames skipped, fire pressed (Mnih et al. 2015).

Written from the paper's description; grey scale, resizing, stacking and clipping are other files' business.
This module needs Gymnasium when it is imported, so it is imported where an environment is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from velodrome.envs.adapter_errors import EnvError

NOOP, FIRE = 0, 1

Result = tuple[Any, Any, bool, bool, dict[str, Any]]


class NoopReset(gym.Wrapper[Any, Any, Any, Any]):
    """Begins each game with 1 to ``most`` steps of doing nothing, drawn from the environment's own RNG."""

    def __init__(self, env: gym.Env[Any, Any], most: int = 30) -> None:
        super().__init__(env)
        self._most = most

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets, then waits."""
        obs, info = self.env.reset(seed=seed, options=options)
        for _ in range(int(self.unwrapped.np_random.integers(1, self._most + 1))):
            obs, _, terminated, truncated, info = self.env.step(NOOP)
            if terminated or truncated:
                obs, info = self.env.reset(options=options)
        return obs, info


class MaxAndSkip(gym.Wrapper[Any, Any, Any, Any]):
    """Repeats each action for ``num`` frames; sums their rewards; shows the pixel-wise maximum of the last two.

    The maximum is for sprites that a game draws in every other frame only.
    """

    def __init__(self, env: gym.Env[Any, Any], num: int = 4) -> None:
        super().__init__(env)
        skips = getattr(env.unwrapped, "_frameskip", 1)
        if skips != 1:
            raise EnvError("The environment skips frames itself", given=f"frameskip={skips}", allowed="frameskip=1",
                           hint="make_envs(..., frameskip=1, wrappers=['atari'])")
        self._num = num

    def step(self, action: Any) -> Result:
        """Steps ``num`` times, fewer where the episode ends before."""
        total = 0.0
        before: Any = None
        obs: Any = None
        for _ in range(self._num):
            before = obs
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        seen = obs if before is None else np.maximum(before, obs)
        return seen, total, terminated, truncated, info


class FireReset(gym.Wrapper[Any, Any, Any, Any]):
    """Presses FIRE after each reset, in the games that wait for it; elsewhere does nothing."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        meanings: list[str] = getattr(env.unwrapped, "get_action_meanings", list)()
        self._waits = len(meanings) > FIRE and meanings[FIRE] == "FIRE"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets and presses FIRE."""
        obs, info = self.env.reset(seed=seed, options=options)
        if not self._waits:
            return obs, info
        obs, _, terminated, truncated, info = self.env.step(FIRE)
        return self.env.reset(options=options) if terminated or truncated else (obs, info)
