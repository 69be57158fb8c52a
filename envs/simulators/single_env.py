"""``SimEnv``: one environment of a simulator, for ``gymnasium.make("velodrome/CartPole-v1")``.

It is a batch of one: for where a single environment is asked for. A step costs as much as one of ten rows or so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from velodrome.envs.render import picture
from velodrome.envs.simulators.batch import SimBatch
from velodrome.envs.simulators.catalogue import simulator as by_name
from velodrome.envs.simulators.simulator import DISABLED, Simulator
from velodrome.errors import UsageError


class SimEnv(gymnasium.Env[NDArray[Any], Any]):
    """One environment; its episodes have no time limit (``gymnasium.make`` adds it).

    Args:
        simulator: A simulator or its name.
        render_mode: None, or ``"rgb_array"``: ``render`` draws a frame (``envs.render``).
        options: The simulator's own (``Simulator.options``).

    Raises:
        UsageError: An unknown simulator, option or render mode, or one that there are no pictures of.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's

    def __init__(self, simulator: str | Simulator, render_mode: str | None = None, **options: Any) -> None:
        simulator = by_name(simulator) if isinstance(simulator, str) else simulator
        self.simulator = simulator = simulator.with_options(options)
        self._picture = picture(simulator.name)
        if render_mode not in (None, "rgb_array") or (render_mode and self._picture is None):
            allowed = "None" if self._picture is None else "rgb_array, None"
            raise UsageError(f"velodrome/{simulator.name} can't be drawn so", given=f"render_mode={render_mode!r}",
                             allowed=allowed)
        self.render_mode = render_mode
        if self._picture is not None:
            self.metadata = type(self).metadata | {"render_fps": self._picture.fps}
        self.batch = SimBatch(simulator, 1, mode=DISABLED)
        self.observation_space, self.action_space = simulator.observation_space, simulator.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begins an episode: the one that row 0 of a batch with this seed would begin."""
        if options:
            raise UsageError(f"{self.simulator.name} has no options of reset", given=", ".join(options), allowed="none")
        super().reset(seed=seed)
        self.batch.reset(seed)
        return self.batch.buffers.obs[0].copy(), self._infos()

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """One step; ``truncated`` is always False here."""
        self.batch.step(np.asarray(action)[None])
        out = self.batch.buffers
        return out.obs[0].copy(), float(out.reward[0]), bool(out.terminated[0]), False, self._infos()

    def render(self) -> NDArray[np.uint8] | None:
        """What the environment looks like now, ``[H, W, 3]``; None without a render mode."""
        if self.render_mode is None or self._picture is None:
            return None
        return self._picture.draw(self.batch.get_state()["state"][:, 0], self.batch.buffers.obs[0])

    def get_state(self) -> dict[str, NDArray[Any]]:
        """All that ``set_state`` needs to go on bit for bit."""
        return self.batch.get_state()

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from a state of ``get_state``."""
        self.batch.set_state(state)

    def _infos(self) -> dict[str, Any]:
        return {} if self.simulator.mask is None else {"action_mask": self.batch.buffers.action_mask[0].copy()}
