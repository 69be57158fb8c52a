"""What a learner sees of any environment: ``EnvBatch``, N environments stepped together under one rule.

The rule is same-step autoreset with the final observation at hand: when an episode ends in a step, that step's
``final_obs`` has the episode's last observation and ``obs`` the first one of the next episode. ``terminated`` and
``truncated`` stay apart: the value of a truncated episode bootstraps from ``final_obs``, of a terminated one it is 0.

The loop of an actor::

    obs = envs.reset(seed=1).copy()
    while ...:
        actions = policy(obs, envs.action_mask)
        step = envs.step(actions)
        rollout.add(obs, actions, step.reward, step.terminated, step.truncated, step.final_obs, step.valid)
        obs = step.obs.copy()              # or copied into the rollout: the next step overwrites it

and where workers should step one half of the environments while the policy computes for the other::

    envs.reset(seed=1)                     # made with groups=2
    for group in envs.groups:
        envs.send(policy(envs.obs[group.rows]), group.index)
    while ...:
        for group in envs.groups:
            step = envs.receive(group.index)      # waits for this half alone
            envs.send(policy(step.obs), group.index)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.adapter_state import checked
from velodrome.seeding import derive

if TYPE_CHECKING:
    from velodrome.envs.adapter_buffers import BatchSpec, Buffers
    from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of n environments gave. The arrays are views of buffers that the group's next step overwrites.

    Attributes:
        obs: ``[n, *obs_shape]``: what to act on next; after an episode's end, the first observation of the next one.
        reward: ``[n]`` float64, as the learner is to see it (wrappers may have clipped it).
        terminated: ``[n]`` bool: the episode reached an end of its own.
        truncated: ``[n]`` bool: the episode was cut, by a time limit or because its process was lost.
        final_obs: ``[n, *obs_shape]``: the episode's last observation; defined where terminated or truncated.
        valid: ``[n]`` bool. False: no transition took place in this row, so it is neither stored, trained on nor
            counted: a reset under next-step autoreset, or an environment whose process was lost (truncated, too).
        episode_done: ``[n]`` bool: a whole episode of the environment itself ended. The same as terminated or
            truncated, except with wrappers that cut episodes into smaller ones (episodic life).
        episode_return: ``[n]`` float64: its sum of raw rewards, before any wrapper of ours; defined where episode_done.
        episode_length: ``[n]`` int64: its number of steps; defined where episode_done.
        action_mask: ``[n, k]`` bool: actions allowed next (``ActionLayout``); None where the environment gives none.
        infos: Values of the infos that were asked for, by name: ``[n]`` float64, NaN where an info lacks the name.
    """

    obs: Array
    reward: Array
    terminated: Array
    truncated: Array
    final_obs: Array
    valid: Array
    episode_done: Array
    episode_return: Array
    episode_length: Array
    action_mask: Array | None
    infos: Mapping[str, Array]

    def copy(self) -> Self:
        """The same values in arrays of their own."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        copies = {name: value.copy() for name, value in values.items() if isinstance(value, np.ndarray)}
        infos = {name: value.copy() for name, value in self.infos.items()}
        return type(self)(**{**values, **copies, "infos": infos})


@dataclass(frozen=True, slots=True)
class Group:
    """Environments that are stepped together: rows ``rows.start`` to ``rows.stop`` of the batch."""

    index: int
    rows: slice

    @property
    def num_envs(self) -> int:
        """How many they are."""
        return int(self.rows.stop - self.rows.start)


class Stepper(Protocol):
    """Steps environments and writes into ``buffers``: in this process, in workers, or in somebody's vector environment.

    Attributes:
        spec: What is exchanged.
        buffers: The arrays that it reads actions from and writes to.
        source: Who steps, for people: ``"8 in this process"``.
        num_lost_episodes: Episodes lost with a process, so far.
        num_restarts: Processes replaced, so far.
    """

    spec: BatchSpec
    buffers: Buffers
    source: str
    num_lost_episodes: int
    num_restarts: int

    def reset(self, seeds: Sequence[int | None]) -> None:
        """Begins a new episode in every environment, seeded where a seed is given."""

    def send(self, group: Group) -> None:
        """Starts a step of the group's rows with ``buffers.actions``."""

    def receive(self, group: Group) -> None:
        """Returns when that step is in the buffers."""

    def get_state(self) -> dict[str, Any]:
        """What ``set_state`` needs; ``"exact"`` says whether it goes on bit for bit."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""

    def close(self) -> None:
        """Ends all. Can be called twice."""


class EnvBatch:
    """N environments under one rule; the module's docstring shows the loops. Made by ``make_envs``.

    Attributes:
        name: What was asked for: an id, or the name of a class.
        num_envs: N.
        obs_layout: How a row of ``obs`` is made of the environment's observation, and back.
        action_layout: What ``actions`` must be.
        groups: Groups that can be stepped apart; one, unless made with ``groups=2``.
    """

    def __init__(
        self, name: str, stepper: Stepper, *, num_groups: int = 1, seed: int | None = None, clip_actions: bool = True,
        check_nan: bool = False,
    ) -> None:
        spec = stepper.spec
        self.name, self.num_envs = name, spec.num_envs
        self.obs_layout: ObsLayout = spec.obs
        self.action_layout: ActionLayout = spec.action
        self.groups = split_groups(spec.num_envs, num_groups)
        self._stepper, self._buffers = stepper, stepper.buffers
        self._seed, self._clip, self._check_nan = seed, clip_actions, check_nan
        self._whole = self._buffers.step_view(slice(0, spec.num_envs), spec)
        self._views = [self._buffers.step_view(group.rows, spec) for group in self.groups]
        self._sent = [False] * len(self.groups)
        self._num_steps = [0] * len(self.groups)
        self._is_reset = False

    @property
    def source(self) -> str:
        """Who steps the environments, for people: ``"8 in 2 processes"``."""
        return self._stepper.source

    @property
    def num_lost_episodes(self) -> int:
        """Episodes that ended because a process died or hung, so far."""
        return self._stepper.num_lost_episodes

    @property
    def num_restarts(self) -> int:
        """Processes that were replaced, so far."""
        return self._stepper.num_restarts

    @property
    def obs(self) -> Array:
        """``[N, *obs_shape]``: the observations to act on now."""
        return self._whole.obs

    @property
    def action_mask(self) -> Array | None:
        """``[N, k]`` bool: the actions allowed now; None where the environment gives no masks."""
        return self._whole.action_mask

    def reset(self, seed: int | None = None) -> Array:
        """Begins new episodes everywhere and returns ``obs``.

        With a seed every environment gets its own, derived from it and the environment's number. Without one the
        first reset takes ``make_envs``'s seed, and later ones go on with the RNGs as they are.
        """
        self._finish_steps()
        root = seed if seed is not None else None if self._is_reset else self._seed
        self._stepper.reset([None if root is None else env_seed(root, i) for i in range(self.num_envs)])
        self._is_reset = True
        self._num_steps = [0] * len(self.groups)
        if self._check_nan:
            self._look_for_nan(slice(0, self.num_envs), "reset")
        return self.obs

    def step(self, actions: Array) -> Step:
        """Steps all environments; ``actions`` is ``[N, *action_shape]`` as ``action_layout`` says."""
        for group in self.groups:
            self.send(actions[group.rows], group.index)
        for group in self.groups:
            self.receive(group.index)
        return self._whole

    def send(self, actions: Array, group: int = 0) -> None:
        """Starts a step of one group; its ``receive`` must come before its next ``send``."""
        if self._sent[group] or not self._is_reset:
            raise EnvError(
                "send comes after reset, and once before each receive",
                given=f"group {group}, " + ("its step is still under way" if self._sent[group] else "never reset"),
            )
        this = self.groups[group]
        self._buffers.actions[this.rows] = self.action_layout.to_batch(actions, this.num_envs, clip=self._clip)
        self._sent[group] = True
        self._stepper.send(this)

    def receive(self, group: int = 0) -> Step:
        """Waits for the step of one group and returns it: ``n`` is the group's size."""
        if not self._sent[group]:
            raise EnvError("receive comes after send", given=f"group {group} has no step under way")
        self._sent[group] = False
        self._stepper.receive(self.groups[group])
        self._num_steps[group] += 1
        if self._check_nan:
            self._look_for_nan(self.groups[group].rows, f"step {self._num_steps[group]}")
        return self._views[group]

    def get_state(self) -> dict[str, Any]:
        """All that ``set_state`` needs, as a dict that can be pickled.

        Its ``"exact"`` says whether a batch set to it goes on bit for bit; otherwise every environment begins a new
        episode there, with its RNG as it was. No step may be under way.
        """
        if any(self._sent):
            raise EnvError("A state can be taken between steps only", hint="receive every group first")
        return self._stepper.get_state()

    def set_state(self, state: Mapping[str, Any]) -> str:
        """Goes on from a state of ``get_state``; see there. A step that is under way is waited for, and dropped.

        Returns:
            Why every environment began a new episode; empty where they go on bit for bit.
        """
        trusted = checked(state)
        self._finish_steps()
        self._stepper.set_state(trusted)
        self._is_reset = True
        return "" if trusted["exact"] else str(trusted["why"])

    def close(self) -> None:
        """Ends every environment and process. Can be called twice."""
        self._stepper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _finish_steps(self) -> None:
        for group in self.groups:
            if self._sent[group.index]:
                self.receive(group.index)

    def _look_for_nan(self, rows: slice, when: str) -> None:
        b = self._buffers
        done = b.terminated[rows] | b.truncated[rows]
        for what, array, where in (
            ("observation", b.obs, None), ("final observation", b.final_obs, done & b.valid[rows]),
            ("reward", b.reward, None),
        ):
            if array.dtype.kind != "f":
                continue
            bad = ~np.isfinite(array[rows].reshape(len(done), -1))
            bad_envs = np.flatnonzero(bad.any(axis=1) & (True if where is None else where))
            if len(bad_envs):
                env = int(bad_envs[0])
                index = int(np.flatnonzero(bad[env])[0])
                value = array[rows].reshape(len(done), -1)[env, index]
                others = f" and {len(bad_envs) - 1} environments more" if len(bad_envs) > 1 else ""
                raise EnvError(
                    f"Environment {rows.start + env} gave a {what} that is not finite at {when}",
                    given=f"{value} at index {index}{others}",
                    hint="look at what the environment divides by; its last action is "
                         f"{b.actions[rows][env].tolist()}",
                )


def env_seed(root: int, index: int, restart: int = 0) -> int:
    """The seed of environment ``index``, in [0, 2**31); another one after each restart of its process."""
    return derive(root, "env", index, *([restart] if restart else [])) & 0x7FFF_FFFF


def split_groups(num_envs: int, num_groups: int) -> tuple[Group, ...]:
    """``num_envs`` rows as groups of about one size.

    Raises:
        EnvError: If there are more groups than environments.
    """
    if not 1 <= num_groups <= num_envs:
        raise EnvError("There can't be so many groups", given=f"{num_groups} groups of {num_envs} environments",
                       allowed=f"1 to {num_envs}")
    cuts = [num_envs * g // num_groups for g in range(num_groups + 1)]
    return tuple(Group(g, slice(cuts[g], cuts[g + 1])) for g in range(num_groups))
