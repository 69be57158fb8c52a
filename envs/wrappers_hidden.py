"""A wrapper that hides velocities, so that a policy needs memory."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from velodrome.envs.adapter_errors import EnvError

VELOCITIES = {
    "CartPole": (1, 3), "Acrobot": (4, 5), "MountainCar": (1,), "MountainCarContinuous": (1,), "Pendulum": (2,),
    "LunarLander": (2, 3, 5), "LunarLanderContinuous": (2, 3, 5),
}
"""Which components of an observation are velocities, by the environment's name without its version."""


class NoVelocity(gym.ObservationWrapper[Any, Any, Any]):
    """Observations without their velocities.

    Raises:
        EnvError: If the environment is none of ``VELOCITIES``.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        name = "" if env.spec is None else env.spec.id
        hidden = VELOCITIES.get(name.rpartition("/")[2].rpartition("-")[0])
        space = env.observation_space
        if hidden is None or not isinstance(space, gym.spaces.Box):
            raise EnvError("It is not known which observations are velocities", given=name or repr(env),
                           allowed=", ".join(VELOCITIES))
        self._seen = np.setdiff1d(np.arange(space.shape[0]), hidden)
        self.observation_space = gym.spaces.Box(space.low[self._seen], space.high[self._seen], dtype=np.float32)

    def observation(self, observation: Any) -> Any:
        """The other components, in their order."""
        return observation[self._seen]
