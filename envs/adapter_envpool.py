"""EnvPool, where it is installed, as a vector environment that is reset by mask."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from velodrome.envs.adapter_errors import EnvError
from velodrome.errors import nearest

Array = np.ndarray[Any, np.dtype[Any]]


class EnvPoolEnv:
    """The part of ``gymnasium.vector.VectorEnv`` that ``VectorStepper`` needs.

    EnvPool itself resets in the next step; here rows that ended are reset at once by number, so no step is lost.
    Its seeds are set as it is made; ``reset`` with another seed makes it anew.

    Args:
        env_id: EnvPool's name of the environment, mostly Gymnasium's.
        num_envs: N.
        seed: As it is made.
        kwargs: EnvPool's own options.

    Raises:
        EnvError: If EnvPool is not installed, or has no such environment.
    """

    def __init__(self, env_id: str, num_envs: int, seed: int, kwargs: Mapping[str, Any]) -> None:
        try:
            envpool: Any = importlib.import_module("envpool")
        except ImportError as error:
            raise EnvError("EnvPool is not installed", given=str(error),
                           hint="pip install envpool, or mode='auto'") from None
        ids: list[str] = envpool.list_all_envs()
        if env_id not in ids:
            raise EnvError("EnvPool has no such environment", given=repr(env_id), allowed=f"{len(ids)} ids",
                           hint=nearest(env_id, ids))
        self._make: Callable[[int], Any] = lambda seed: envpool.make_gymnasium(
            env_id, num_envs=num_envs, seed=seed, **kwargs
        )
        self._env, self._seed, self._is_new = self._make(seed), seed, True
        self.num_envs, self.closed = num_envs, False
        self.single_observation_space = self._env.observation_space
        self.single_action_space = self._env.action_space
        self.observation_space, self.metadata = None, {"autoreset_mode": "Disabled"}

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins new episodes, everywhere or in the rows of ``options["reset_mask"]``; other rows stay as they are."""
        if seed is not None and (seed != self._seed or not self._is_new):
            self._env.close()
            self._env, self._seed = self._make(seed), seed
        self._is_new = False
        rows = np.arange(self.num_envs) if options is None else np.flatnonzero(options["reset_mask"])
        obs, infos = self._env.reset(rows.astype(np.int32))
        if options is None:
            self._obs = np.array(obs)
        else:
            self._obs[infos["env_id"]] = obs
        return self._obs, {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of all."""
        kind = np.int32 if actions.dtype.kind == "i" else actions.dtype
        obs, reward, terminated, truncated, infos = self._env.step(actions.astype(kind))
        self._obs = np.array(obs)
        shape = (self.num_envs,)
        numbers = {key: value for key, value in infos.items() if isinstance(value, np.ndarray) and value.shape == shape}
        return self._obs, reward, terminated, truncated, numbers

    def close(self) -> None:
        """Ends its threads."""
        self.closed = True
        self._env.close()
