"""Somebody's Gymnasium vector environment as a ``Stepper``, whatever its autoreset mode.

===========  ========================================================================================================
its mode     what is done
===========  ========================================================================================================
same step    nothing: the final observations are in its infos
disabled     rows that ended are reset at once, with ``reset(options={"reset_mask": ...})``
next step    its step after an episode's end is a reset and no transition: ``valid`` is False there, nothing is counted
===========  ========================================================================================================

Such an environment steps as a whole, so there is one group, and states can't be taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from velodrome.envs.adapter_buffers import BatchSpec, Buffers, row_views
from velodrome.envs.adapter_errors import EnvError, raised
from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.env_batch import Group

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class VectorOptions:
    """What wrappers would do, for an environment that can't be wrapped one by one.

    Attributes:
        clip_reward: Bounds of the reward that the learner sees; None for none.
        episodic_life: Whether a lost life (``infos["lives"]``) is reported as terminated, while the game goes on.
    """

    clip_reward: tuple[float, float] | None = None
    episodic_life: bool = False


class VectorStepper:
    """A ``Stepper`` over a ``gymnasium.vector.VectorEnv``.

    Args:
        env: The vector environment.
        source: Who steps, for people.
        info_keys: Numbers in the infos to keep.
        options: What wrappers would do.

    Raises:
        EnvError: If its autoreset mode is not stated, or a space is not supported.
    """

    num_lost_episodes = 0
    num_restarts = 0

    def __init__(
        self, env: Any, source: str, info_keys: tuple[str, ...] = (), options: VectorOptions = VectorOptions()
    ) -> None:
        mode = env.metadata.get("autoreset_mode")
        self._mode = getattr(mode, "value", mode)
        if self._mode not in ("SameStep", "NextStep", "Disabled"):
            raise EnvError(
                "The vector environment does not say how it resets", given=f"metadata['autoreset_mode'] is {mode!r}",
                allowed="gymnasium.vector.AutoresetMode", hint="mode='sync' steps single environments instead",
            )
        self._env, self._options, self.source = env, options, source
        n = env.num_envs
        _, infos = self._call("the first reset", env.reset)
        action = ActionLayout.of(env.single_action_space)
        has_mask = bool(action.sizes) and "action_mask" in infos
        self.spec = BatchSpec(n, ObsLayout.of(env.single_observation_space), action, has_mask, info_keys)
        self.buffers = Buffers.allocate(self.spec)
        self._obs_rows, self._final_rows = row_views(self.buffers.obs), row_views(self.buffers.final_obs)
        self._returns, self._lengths = np.zeros(n), np.zeros(n, np.int64)
        self._ended, self._lives = np.zeros(n, np.bool_), np.zeros(n)
        self._starts = np.asarray(action.starts, np.int64).reshape(action.shape) if action.sizes else None

    def reset(self, seeds: Sequence[int | None]) -> None:
        """Begins new episodes; the environment spreads the first seed over its rows as it likes."""
        obs, infos = self._call("reset", self._env.reset, seed=seeds[0])
        b = self.buffers
        self._write_obs(obs)
        self._write_infos(infos)
        self._returns[:], self._lengths[:], self._ended[:] = 0.0, 0, False
        self._lives = self._number("lives", infos, default=0.0)
        b.reward[:], b.valid[:] = 0.0, True
        b.terminated[:] = b.truncated[:] = b.episode_done[:] = False

    def send(self, group: Group) -> None:
        """Steps them all."""
        actions = self.buffers.actions.copy()
        if self._starts is not None and self._starts.any():
            actions += self._starts
        result = self._call("step", self._env.step, actions)
        obs, reward, terminated, truncated, infos = result
        b, done = self.buffers, np.logical_or(terminated, truncated)
        b.valid[:] = ~self._ended if self._mode == "NextStep" else True
        b.terminated[:], b.truncated[:] = terminated & b.valid, truncated & b.valid
        self._count(np.where(b.valid, reward, 0.0), done & b.valid)
        self._write_obs(obs)
        final_infos = infos
        if done.any() and self._mode == "SameStep":
            self._write_final(infos, done)
            final_infos = infos.get("final_info", infos)
        elif done.any():
            b.final_obs[done] = b.obs[done]
        if self._mode == "Disabled" and done.any():
            obs, infos = self._call("reset", self._env.reset, options={"reset_mask": done})
            self._write_obs(obs)
        self._ended = done
        for k, key in enumerate(self.spec.info_keys):
            values = self._number(key, result[4])
            b.infos[k] = np.where(done, self._number(key, final_infos), values) if self._mode == "SameStep" else values
        self._write_infos(infos)
        self._lose_lives(infos, done)

    def receive(self, group: Group) -> None:
        """Nothing to wait for."""

    def get_state(self) -> dict[str, Any]:
        """Says that there is no state to take."""
        return {"exact": False, "why": f"{type(self._env).__name__} can't save its state"}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Begins new episodes: all that can be done."""
        self.reset([None] * self.spec.num_envs)

    def close(self) -> None:
        """Closes the vector environment."""
        if not getattr(self._env, "closed", False):
            self._call("close", self._env.close)

    def _call(self, doing: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except EnvError:
            raise
        except Exception as error:
            raise raised(f"{doing} of {type(self._env).__name__}", error) from error

    def _count(self, reward: Array, done: Array) -> None:
        """Adds to the episodes' raw sums, and reports those that are done."""
        b, clip = self.buffers, self._options.clip_reward
        self._returns += reward
        self._lengths += b.valid
        b.reward[:] = np.clip(reward, *clip) if clip else reward
        b.episode_done[:] = done
        b.episode_return[done], b.episode_length[done] = self._returns[done], self._lengths[done]
        self._returns[done], self._lengths[done] = 0.0, 0

    def _lose_lives(self, infos: Mapping[str, Any], done: Array) -> None:
        """Reports lost lives as terminated: the observation is the last of one episode and the first of the next."""
        if not self._options.episodic_life:
            return
        b, lives = self.buffers, self._number("lives", infos, default=0.0)
        lost = (lives < self._lives) & (lives > 0) & ~done
        b.terminated[lost] = True
        b.final_obs[lost] = b.obs[lost]
        self._lives = lives

    def _write_obs(self, obs: Any) -> None:
        if not self.spec.obs.is_flat:
            self.buffers.obs[...] = obs
            return
        from gymnasium.vector.utils import iterate

        for row, value in zip(self._obs_rows, iterate(self._env.observation_space, obs), strict=True):
            self.spec.obs.write(value, row)

    def _write_final(self, infos: Mapping[str, Any], done: Array) -> None:
        final = infos.get("final_obs")
        if final is None:
            raise EnvError(
                f"{type(self._env).__name__} ended episodes without their last observations",
                given=f"infos: {', '.join(infos)}", allowed="infos['final_obs'], as in Gymnasium 1.0 and newer",
                hint="mode='sync' steps single environments instead",
            )
        if isinstance(final, np.ndarray) and final.dtype != object and not self.spec.obs.is_flat:
            self.buffers.final_obs[done] = final[done]
            return
        for row in np.flatnonzero(done).tolist():
            self.spec.obs.write(final[row], self._final_rows[row])

    def _write_infos(self, infos: Mapping[str, Any]) -> None:
        if not self.spec.has_mask:
            return
        mask, given = infos.get("action_mask"), infos.get("_action_mask")
        self.buffers.action_mask[...] = True
        if mask is not None:
            rows = range(len(mask)) if given is None else np.flatnonzero(given).tolist()
            for row in rows:
                self.buffers.action_mask[row] = np.asarray(mask[row]).reshape(-1)

    def _number(self, key: str, infos: Mapping[str, Any], default: float = np.nan) -> Array:
        """An info as ``[N]`` float64."""
        values, given = infos.get(key), infos.get(f"_{key}")
        if values is None:
            return np.full(self.spec.num_envs, default)
        numbers = np.asarray(values, np.float64)
        return numbers if given is None else np.where(given, numbers, default)
