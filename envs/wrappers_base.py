"""The two wrappers that every environment of a batch has: the raw episode's bookkeeper, and a counter of lives.

This module needs Gymnasium when it is imported, so it is imported where an environment is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym


class EpisodeTracker(gym.Wrapper[Any, Any, Any, Any]):
    """Sums the raw rewards of an episode, below every wrapper that clips rewards or cuts episodes.

    An episode ends where the environment says so, or where it is reset before (by a time limit above this layer).
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.ended = False
        self._return, self._length = 0.0, 0
        self._ended_return, self._ended_length = 0.0, 0

    def __getattr__(self, name: str) -> Any:
        """What this layer lacks is the environment's: a user's wrapper that looks for it need not know of this one."""
        if name == "env":
            raise AttributeError(name)
        return getattr(self.env, name)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps and adds to the sums."""
        result = self.env.step(action)
        self._return += float(result[1])
        self._length += 1
        if result[2] or result[3]:
            self._end()
        return result

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets; an episode that was under way ends here."""
        if self._length:
            self._end()
        return self.env.reset(seed=seed, options=options)

    def pop(self) -> tuple[float, int]:
        """Return and length of the episode that ended; ``ended`` is False again."""
        self.ended = False
        return self._ended_return, self._ended_length

    def discard(self) -> None:
        """Forgets an ended episode: it was reset by the learner, not ended by the environment."""
        self.ended = False

    def _end(self) -> None:
        self.ended = True
        self._ended_return, self._ended_length = self._return, self._length
        self._return, self._length = 0.0, 0


class EpisodicLife(gym.Wrapper[Any, Any, Any, Any]):
    """Ends the learner's episode at each lost life, and the real one when none is left (Mnih et al. 2015).

    A reset after a lost life goes on with the game by one step of action 0. Returns that are reported are the whole
    game's. For environments with ``lives`` in their infos (Atari).
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._lives = 0
        self._game_over = True

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; terminated also where a life was lost."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        lives = info.get("lives", 0)
        self._game_over = bool(terminated or truncated)
        lost = 0 < lives < self._lives
        self._lives = lives
        return obs, reward, terminated or lost, truncated, info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins a new game where the last one is over or a seed is given; otherwise goes on with this one."""
        if self._game_over or seed is not None:
            obs, info = self.env.reset(seed=seed, options=options)
        else:
            obs, _, terminated, truncated, info = self.env.step(0)
            if terminated or truncated:
                obs, info = self.env.reset(options=options)
        self._game_over = False
        self._lives = info.get("lives", 0)
        return obs, info
