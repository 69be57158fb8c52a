"""``SimVectorEnv``: a batch of a simulator as a Gymnasium vector environment.

    import gymnasium as gym
    import velodrome.envs

    envs = gym.make_vec("velodrome/CartPole-v1", num_envs=64)
    obs, infos = envs.reset(seed=1)
    obs, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())

``infos`` of a step, all under Gymnasium's names:

- In same-step mode, when an episode ended: ``final_obs``, one array ``[N, *obs_shape]`` whose rows are the episodes'
  last observations where the mask ``_final_obs`` is true (``SyncVectorEnv`` has an array of objects there; other rows
  of ours are older), and ``final_info["episode"]`` with the sum of rewards ``r`` and the length ``l``.
- With action masks: ``action_mask``, ``[N, num_actions]`` bool, the actions allowed next; also in those of a reset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from velodrome.envs.simulators.batch import SimBatch, StepBuffers
from velodrome.envs.simulators.catalogue import simulator as by_name
from velodrome.envs.simulators.simulator import DISABLED, NEXT_STEP, SAME_STEP, Bools, Floats, Simulator
from velodrome.errors import UsageError

_MODES = {AutoresetMode.SAME_STEP: SAME_STEP, AutoresetMode.NEXT_STEP: NEXT_STEP, AutoresetMode.DISABLED: DISABLED}
_NO_LIMIT = -1

Array = NDArray[Any]


class SimVectorEnv(VectorEnv[Array, Array, Array]):
    """N environments of one simulator.

    Args:
        simulator: A simulator or its name.
        num_envs: N.
        max_episode_steps: Time limit; None for the simulator's own, -1 for none.
        autoreset_mode: Gymnasium's, or its value (``"SameStep"``, ``"NextStep"``, ``"Disabled"``). Same-step is the
            default, and the one without a lost step per episode.
        copy: Whether ``reset`` and ``step`` return copies. Without, they return the buffers themselves (``buffers``),
            which the next step overwrites.
        num_threads, first_stream: As ``SimBatch`` has them.
        render_mode: None: a batch can't be drawn, a single environment can (``SimEnv``).
        options: The simulator's own (``Simulator.options``).

    Raises:
        UsageError: An unknown simulator, mode, number or option.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 - Gymnasium's

    def __init__(
        self, simulator: str | Simulator, num_envs: int = 1, *, max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP, copy: bool = True, num_threads: int = 1,
        first_stream: int = 0, render_mode: str | None = None, **options: Any,
    ) -> None:
        simulator = by_name(simulator) if isinstance(simulator, str) else simulator
        self.simulator = simulator = simulator.with_options(options)
        if render_mode is not None:
            raise UsageError("A batch of simulators can't be drawn", given=f"render_mode={render_mode!r}",
                             allowed="None", hint=f"a single one: gymnasium.make('velodrome/{simulator.name}', ...)")
        try:
            self._mode = AutoresetMode(autoreset_mode)
        except ValueError:
            raise UsageError("There is no such autoreset mode", given=repr(autoreset_mode),
                             allowed=", ".join(repr(mode.value) for mode in AutoresetMode)) from None
        limit = simulator.max_episode_steps if max_episode_steps is None else max_episode_steps
        self.batch = SimBatch(
            simulator, num_envs, mode=_MODES[self._mode], max_episode_steps=None if limit == _NO_LIMIT else limit,
            first_stream=first_stream, num_threads=num_threads,
        )
        self.num_envs, self.copy = self.batch.num_envs, copy
        self.metadata = type(self).metadata | {"autoreset_mode": self._mode}
        self.single_observation_space, self.single_action_space = simulator.observation_space, simulator.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    @property
    def buffers(self) -> StepBuffers:
        """What the last step, or reset, wrote."""
        return self.batch.buffers

    def reset(  # a list of seeds, as SyncVectorEnv takes it
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins new episodes: everywhere, or where ``options["reset_mask"]`` (bool ``[N]``) is true.

        Args:
            seed: As ``SimBatch.reset`` takes it.
            options: ``{"reset_mask": mask}`` or nothing.

        Raises:
            UsageError: Another option, a mask of another type or shape or with no true value, or a wrong seed.
        """
        where = self._mask_of(options or {})
        self.batch.reset(seed, where)
        if isinstance(seed, int):
            super().reset(seed=seed)
        return self._own(self.buffers.obs), self._mask_infos()

    def step(self, actions: Array) -> tuple[Array, Floats, Bools, Bools, dict[str, Any]]:
        """One step of every environment: observations, rewards, terminations, truncations and infos (see the module).

        Raises:
            UsageError: As ``SimBatch.step`` does.
        """
        num_ended = self.batch.step(actions)
        out, own = self.batch.buffers, self._own
        infos = self._mask_infos()
        if num_ended and self._mode is AutoresetMode.SAME_STEP:
            done = own(out.done)
            episode = {"r": own(out.episode_return), "_r": done, "l": own(out.episode_length), "_l": done}
            infos |= {"final_obs": own(out.final_obs), "_final_obs": done,
                      "final_info": {"episode": episode, "_episode": done}, "_final_info": done}
        return own(out.obs), own(out.reward), own(out.terminated), own(out.truncated), infos

    def step_into(self, actions: Array, out: StepBuffers | None = None) -> int:
        """One step without copies and infos, into ``buffers`` or into ``out``: ``SimBatch.step``."""
        return self.batch.step(actions, out)

    def get_state(self) -> dict[str, Array]:
        """All that ``set_state`` needs to go on bit for bit."""
        return self.batch.get_state()

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Goes on from a state of ``get_state`` of as many environments of the same simulator."""
        self.batch.set_state(state)

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads."""
        if hasattr(self, "batch"):  # not if the constructor raised; older Gymnasium closes what it deletes
            self.batch.close()

    def _own(self, array: Array) -> Array:
        return array.copy() if self.copy else array

    def _mask_infos(self) -> dict[str, Any]:
        if self.simulator.mask is None:
            return {}
        return {"action_mask": self._own(self.buffers.action_mask), "_action_mask": np.ones(self.num_envs, np.bool_)}

    def _mask_of(self, options: Mapping[str, Any]) -> Bools | None:
        mask = options.get("reset_mask")
        if set(options) - {"reset_mask"}:
            raise UsageError(f"{self.simulator.name} has no such options of reset", given=", ".join(map(str, options)),
                             allowed="reset_mask")
        if mask is None:
            return None
        shape = (self.num_envs,)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != shape or not mask.any():
            given = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else repr(mask)
            raise UsageError("This can't be a reset_mask", given=given,
                             allowed=f"a bool array of shape {shape} with a true value")
        return mask
