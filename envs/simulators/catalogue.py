"""The simulators by name, and their entries in Gymnasium's registry, ``velodrome/NAME``. Loads no simulator itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

import gymnasium

from velodrome.errors import UsageError, nearest

if TYPE_CHECKING:
    from velodrome.envs.simulators.simulator import Simulator

NAMESPACE = "velodrome"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a simulator is, and what the registry says of it."""

    module: str
    attribute: str
    max_episode_steps: int | None
    reward_threshold: float | None = None


CATALOGUE = {
    "CartPole-v1": Entry("cartpole", "CARTPOLE", 500, 475.0),
    "Acrobot-v1": Entry("acrobot", "ACROBOT", 500, -100.0),
    "MountainCar-v0": Entry("mountain_car", "MOUNTAIN_CAR", 200, -110.0),
    "MountainCarContinuous-v0": Entry("mountain_car", "MOUNTAIN_CAR_CONTINUOUS", 999, 90.0),
    "Pendulum-v1": Entry("pendulum", "PENDULUM", 200),
    "CartPoleNoVelocity-v1": Entry("cartpole", "CARTPOLE_NO_VELOCITY", 500, 475.0),
    "PendulumNoVelocity-v1": Entry("pendulum", "PENDULUM_NO_VELOCITY", 200),
    "DoorKey-5x5-v0": Entry("grid_door_key", "DOOR_KEY_5", 250),
    "DoorKey-6x6-v0": Entry("grid_door_key", "DOOR_KEY_6", 360),
    "DoorKey-8x8-v0": Entry("grid_door_key", "DOOR_KEY_8", 640),
    "FourRooms-v0": Entry("grid_four_rooms", "FOUR_ROOMS", 100),
    "MinAtar-Breakout-v1": Entry("minatar.breakout", "BREAKOUT", None),
    "MinAtar-Asterix-v1": Entry("minatar.asterix", "ASTERIX", None),
    "MinAtar-Freeway-v1": Entry("minatar.freeway", "FREEWAY", None),
    "MinAtar-SpaceInvaders-v1": Entry("minatar.space_invaders", "SPACE_INVADERS", None),
    "MinAtar-Seaquest-v1": Entry("minatar.seaquest", "SEAQUEST", None),
    "ProbeValue-v0": Entry("probes", "VALUE", None, 1.0),
    "ProbeObservation-v0": Entry("probes", "OBSERVATION", None),
    "ProbeDiscount-v0": Entry("probes", "DISCOUNT", None, 1.0),
    "ProbeAction-v0": Entry("probes", "ACTION", None, 1.0),
    "ProbeContext-v0": Entry("probes", "CONTEXT", None, 8.0),
    "ProbeCredit-v0": Entry("probes", "CREDIT", None, 1.0),
    "ProbeTruncation-v0": Entry("probes", "TRUNCATION", 5, 5.0),
    "ProbeMemory-v0": Entry("probes", "MEMORY", None, 1.0),
    "ProbeMask-v0": Entry("probes", "MASK", None, 8.0),
    "ProbeMaskMemory-v0": Entry("probes", "MASK_MEMORY", None, 1.0),
    "ProbeContinuous-v0": Entry("probes", "CONTINUOUS", None, 0.0),
}

ALIASES = {name.replace("-", "/", 1): name for name in CATALOGUE if name.startswith("MinAtar-")}
"""The ``minatar`` package's own ids, which are ours too, with or without the package: ``MinAtar/Breakout-v1``."""


def simulator_name(env_id: str) -> str | None:
    """The name of the simulator that has the dynamics of an environment, Gymnasium's or ours; None if there is none."""
    name = ALIASES.get(env_id, env_id.removeprefix(f"{NAMESPACE}/"))
    return name if name in CATALOGUE else None


def simulator(name: str) -> Simulator:
    """The simulator called ``name``, with or without ``velodrome/``.

    Raises:
        UsageError: There is none of that name.
    """
    entry = CATALOGUE.get(name.removeprefix(f"{NAMESPACE}/"))
    if entry is None:
        raise UsageError("There is no simulator of this name", given=name, allowed=", ".join(CATALOGUE),
                         hint=nearest(name, CATALOGUE))
    return cast("Simulator", getattr(import_module(f"velodrome.envs.simulators.{entry.module}"), entry.attribute))


def register() -> None:
    """Adds every simulator to Gymnasium's registry, for ``make`` and ``make_vec``."""
    for name, entry in CATALOGUE.items():
        gymnasium.register(
            f"{NAMESPACE}/{name}",
            entry_point="velodrome.envs.simulators.single_env:SimEnv",
            vector_entry_point="velodrome.envs.simulators.vector_env:SimVectorEnv",
            max_episode_steps=entry.max_episode_steps,
            reward_threshold=entry.reward_threshold,
            kwargs={"simulator": name},
        )
