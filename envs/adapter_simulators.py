"""Our own simulators as a ``Stepper``: their buffers are the batch's, so nothing is copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from velodrome.envs.adapter_buffers import BatchSpec, Buffers
from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.env_batch import Group, split_groups
from velodrome.envs.simulators.batch import SimBatch, StepBuffers
from velodrome.envs.simulators.catalogue import simulator as by_name


class SimulatorStepper:
    """A ``Stepper`` over ``SimBatch``, one for each group.

    Args:
        name: The simulator's.
        num_envs: N.
        num_groups: Groups that can be stepped apart. The results do not depend on it.
        max_episode_steps: Time limit; None for the simulator's own, -1 for none.
        options: The simulator's own (``Simulator.options``).
    """

    num_lost_episodes = 0
    num_restarts = 0

    def __init__(
        self, name: str, num_envs: int, *, num_groups: int = 1, max_episode_steps: int | None = None, **options: Any
    ) -> None:
        simulator = by_name(name).with_options(options)
        limit = simulator.max_episode_steps if max_episode_steps is None else max_episode_steps
        obs, action = ObsLayout.of(simulator.observation_space), ActionLayout.of(simulator.action_space)
        self.spec = BatchSpec(num_envs, obs, action, simulator.mask is not None, ())
        self._shared = StepBuffers.empty(simulator, num_envs)
        shared = self._shared
        self.buffers = Buffers(
            obs=shared.obs, final_obs=shared.final_obs, actions=np.zeros((num_envs, *action.shape), action.dtype),
            reward=shared.reward, terminated=shared.terminated, truncated=shared.truncated,
            valid=np.ones(num_envs, np.bool_), episode_done=shared.done, episode_return=shared.episode_return,
            episode_length=shared.episode_length, action_mask=shared.action_mask, infos=np.zeros((0, num_envs)),
        )
        self._groups = split_groups(num_envs, num_groups)
        self._batches = [
            SimBatch(simulator, group.num_envs, max_episode_steps=None if limit == -1 else limit,
                     first_stream=group.rows.start)
            for group in self._groups
        ]
        self._outs = [_part(shared, group.rows) for group in self._groups]
        self.source = f"{num_envs} simulated in this process"

    def reset(self, seeds: Sequence[int | None]) -> None:
        """Begins new episodes: streams 0 to N-1 of the first seed."""
        for batch, out in zip(self._batches, self._outs, strict=True):
            batch.reset(seeds[0])
            _copy(batch.buffers, out)

    def send(self, group: Group) -> None:
        """Steps the group."""
        self._batches[group.index].step(self.buffers.actions[group.rows], self._outs[group.index])

    def receive(self, group: Group) -> None:
        """Nothing to wait for."""

    def get_state(self) -> dict[str, Any]:
        """The simulators' whole state."""
        return {"exact": True, "why": "", "simulators": [batch.get_state() for batch in self._batches]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of as many environments in as many groups."""
        for batch, out, saved in zip(self._batches, self._outs, state["simulators"], strict=True):
            batch.set_state(saved)
            _copy(batch.buffers, out)

    def close(self) -> None:
        """Ends the simulators."""
        for batch in self._batches:
            batch.close()


def _part(buffers: StepBuffers, rows: slice) -> StepBuffers:
    return StepBuffers(**{field.name: getattr(buffers, field.name)[rows] for field in fields(StepBuffers)})


def _copy(source: StepBuffers, to: StepBuffers) -> None:
    if source is not to:
        for field in fields(StepBuffers):
            getattr(to, field.name)[...] = getattr(source, field.name)
