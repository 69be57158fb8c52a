"""Environments of Gymnasium's, one after the other: the loop that steps some rows of a batch and fills its buffers.

The same loop runs in this process and in every worker. Autoreset is the same step's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from velodrome.envs.adapter_buffers import BatchSpec, Buffers, row_views
from velodrome.envs.adapter_errors import EnvError, raised
from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.adapter_state import load_env, save_env

MakeEnv = Callable[[int], Any]
"""Makes the environment of a row, wrapped; ``EpisodeTracker`` is somewhere among its layers."""


class EnvRows:
    """Environments that stand in rows ``rows`` of a batch.

    Args:
        make_env: Makes one of them.
        rows: Their rows in the batch.

    Raises:
        EnvError: If one can't be made, or they are not alike.
    """

    def __init__(self, make_env: MakeEnv, rows: Sequence[int]) -> None:
        self.rows = list(rows)
        self.envs: list[Any] = []
        for row in self.rows:
            try:
                self.envs.append(make_env(row))
            except EnvError:
                raise
            except Exception as error:
                raise raised(f"making environment {row}", error) from error
        first = self.envs[0]
        self.spaces = first.observation_space, first.action_space
        for row, env in zip(self.rows, self.envs, strict=True):
            if (env.observation_space, env.action_space) != self.spaces:
                raise EnvError(
                    f"Environment {row} has other spaces than environment {self.rows[0]}",
                    given=f"{env.observation_space}, {env.action_space}", allowed=f"{self.spaces[0]}, {self.spaces[1]}",
                    hint="make all environments of one batch alike",
                )
        self._trackers = [tracker_of(env) for env in self.envs]

    def spec(self, num_envs: int, info_keys: tuple[str, ...]) -> BatchSpec:
        """What the batch exchanges, found by a first reset of the first environment.

        Raises:
            EnvError: If a space is not supported or the environment raises.
        """
        obs, action = ObsLayout.of(self.spaces[0]), ActionLayout.of(self.spaces[1])
        _, info = _reset(self.envs[0], None, self.rows[0])
        return BatchSpec(num_envs, obs, action, bool(action.sizes) and "action_mask" in info, info_keys)

    def attach(self, spec: BatchSpec, buffers: Buffers) -> None:
        """Sets the arrays that all further calls write to."""
        self._spec, self._buffers = spec, buffers
        self._place = {row: i for i, row in enumerate(self.rows)}
        self._obs, self._final_obs = row_views(buffers.obs), row_views(buffers.final_obs)
        self._actions = buffers.actions if spec.action.kind == "discrete" else row_views(buffers.actions)

    def reset(self, seeds: Mapping[int, int | None]) -> None:
        """Begins a new episode in every row, seeded where its seed is not None; no flag is set."""
        b = self._buffers
        for row, env, tracker in zip(self.rows, self.envs, self._trackers, strict=True):
            obs, info = _reset(env, seeds[row], row)
            tracker.discard()
            self._write(obs, self._obs[row], row, "reset")
            self._write_info(info, row)
            b.reward[row], b.valid[row] = 0.0, True
            b.terminated[row] = b.truncated[row] = b.episode_done[row] = False

    def step(self, rows: Sequence[int]) -> None:
        """Steps some of the rows, neighbours, with the actions in the buffers."""
        b, to_env, info_keys, write = self._buffers, self._spec.action.to_env, self._spec.info_keys, self._write
        has_mask, first, actions = self._spec.has_mask, self._place[rows[0]], self._actions
        rewards, terminations, truncations, dones = [], [], [], []
        for place, row in enumerate(rows, start=first):
            env, tracker = self.envs[place], self._trackers[place]
            try:
                obs, reward, terminated, truncated, info = env.step(to_env(actions[row]))
            except Exception as error:
                raise raised(f"step of environment {row}", error, given=f"action {actions[row].tolist()}") from error
            rewards.append(reward)
            terminations.append(terminated)
            truncations.append(truncated)
            for k, key in enumerate(info_keys):
                b.infos[k, row] = _number(info.get(key))
            if terminated or truncated:
                write(obs, self._final_obs[row], row, "step")
                obs, info = _reset(env, None, row)
            write(obs, self._obs[row], row, "step")
            dones.append(tracker.ended)
            if tracker.ended:
                b.episode_return[row], b.episode_length[row] = tracker.pop()
            if has_mask:
                self._write_info(info, row)
        part = slice(rows[0], rows[-1] + 1)
        b.valid[part] = True
        try:
            b.reward[part], b.terminated[part], b.truncated[part] = rewards, terminations, truncations
        except (TypeError, ValueError) as error:
            given = f"{rewards}, {terminations}, {truncations}"[:200]
            raise EnvError("A step gave a reward or a flag that is none", given=given,
                           allowed="a number, and two bools", hint="velo env check tells more") from error
        b.episode_done[part] = dones

    def lose(self, rows: Iterable[int]) -> None:
        """Reports the rows as lost: cut, with no valid transition, and already in a new episode (``reset``)."""
        b = self._buffers
        for row in rows:
            b.reward[row], b.valid[row] = 0.0, False
            b.terminated[row] = b.episode_done[row] = False
            b.truncated[row] = True
            b.final_obs[row] = b.obs[row]  # nobody has the last one; finite at least
            b.infos[:, row] = np.nan

    def save(self) -> list[dict[str, Any]]:
        """Each environment's state, in the order of the rows."""
        return [save_env(env) for env in self.envs]

    def load(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Sets the environments to such states; one whose state is not exact begins a new episode."""
        for row, env, tracker, state in zip(self.rows, self.envs, self._trackers, states, strict=True):
            load_env(env, state)
            if not state["exact"]:
                obs, info = _reset(env, None, row)
                tracker.discard()
                self._write(obs, self._obs[row], row, "reset")
                self._write_info(info, row)

    def close(self) -> None:
        """Closes every environment, whatever the others do."""
        for env in self.envs:
            try:
                env.close()
            except Exception as error:
                raise raised("close", error) from error

    def _write(self, obs: Any, to: Any, row: int, doing: str) -> None:
        try:
            self._spec.obs.write(obs, to)
        except EnvError as error:
            raise EnvError(f"{error.what} ({doing} of environment {row})", given=error.given, allowed=error.allowed,
                           hint="velo env check tells more") from error
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EnvError(f"An observation does not fit its space ({doing} of environment {row})",
                           given=f"{obs!r:.200}", allowed=str(self.spaces[0]),
                           hint="velo env check tells more") from error

    def _write_info(self, info: Mapping[str, Any], row: int) -> None:
        if not self._spec.has_mask:
            return
        mask = info.get("action_mask")
        to = self._buffers.action_mask[row]
        if mask is None:
            to[:] = True
            return
        parts = mask if isinstance(mask, tuple | list) and np.ndim(mask[0]) else [mask]
        flat = np.concatenate([np.asarray(part).reshape(-1) for part in parts])
        if flat.shape != to.shape:
            raise EnvError(f"The action_mask of environment {row} has the wrong size", given=str(flat.size),
                           allowed=f"{to.size}, one for each choice of the action space")
        if not flat.any():
            raise EnvError(f"The action_mask of environment {row} allows no action", allowed="one action or more",
                           hint="end the episode instead: terminated=True")
        to[:] = flat


def tracker_of(env: Any) -> Any:
    """The ``EpisodeTracker`` among an environment's layers."""
    layer = env
    while type(layer).__name__ != "EpisodeTracker":
        layer = layer.env
    return layer


def _reset(env: Any, seed: int | None, row: int) -> tuple[Any, Mapping[str, Any]]:
    try:
        result = env.reset(seed=seed)
    except Exception as error:
        raise raised(f"reset of environment {row}", error) from error
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
        raise EnvError(f"reset of environment {row} returned something else than (observation, info)",
                       given=f"{result!r:.200}", allowed="a tuple of the observation and a dict",
                       hint="it is written for the old Gym; return obs, {}")
    return result


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
