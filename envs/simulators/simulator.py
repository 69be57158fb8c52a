"""A simulator: spaces, a time limit, and two kernels that work on rows ``lo`` to ``hi`` of a batch.

``advance(state, actions, obs, reward, terminated, lo, hi)``
    One step of the dynamics: changes ``state`` and writes the next observation, the reward and the end of every row.
``begin(state, keys, counts, obs, restart, lo, hi)``
    A new episode, with draws of ``counter_random``, in the rows where ``restart`` is true.
``mask(state, allowed, lo, hi)``
    Only for simulators with action masks: the actions allowed next in every row.

Where steps are random (``options`` is not None), ``advance`` takes ``keys, counts, options`` before ``lo``.

Arrays: ``state`` of ``state_type`` ``[num_variables, N]``, one row a variable; ``actions`` int64 ``[N]`` or float32
``[N, k]``; ``obs`` ``[N, *obs_shape]``; ``reward`` float64 ``[N]``; ``terminated``, ``restart`` bool ``[N]``;
``allowed`` bool ``[N, num_actions]``; ``keys`` and ``counts`` as ``counter_random`` has them; ``options`` float64, the
values of ``Simulator.options`` in their order.

Time limits, autoreset and the sums of episodes are the same for all simulators: ``settle``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from velodrome.envs.simulators.counter_random import DRAWS, EPISODE, LENGTH
from velodrome.envs.simulators.kernel import kernel
from velodrome.errors import UsageError, nearest

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]
Keys = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

SAME_STEP, NEXT_STEP, DISABLED = 0, 1, 2
_NEVER = 2**62


@dataclass(frozen=True, slots=True)
class Simulator:
    """The module's docstring says what the kernels do.

    Attributes:
        state_type: Of the state: np.float64 or np.int64.
        options: What whoever makes the environment may change, with its value: a switch, or a number from 0 to 1.
    """

    name: str
    observation_space: Box
    action_space: Discrete | Box
    num_variables: int
    max_episode_steps: int | None
    advance: Callable[..., None]
    begin: Callable[..., None]
    mask: Callable[..., None] | None = None
    state_type: type[np.float64] | type[np.int64] = np.float64
    options: Mapping[str, float] | None = None

    def with_options(self, given: Mapping[str, Any]) -> Simulator:
        """This simulator with other values of some of its options.

        Raises:
            UsageError: It has no such option, or the value is no switch or no number from 0 to 1.
        """
        options = self.options or {}
        for name, value in given.items():
            if name not in options:
                raise UsageError(f"{self.name} has no such option", given=name, allowed=", ".join(options) or "none",
                                 hint=nearest(name, options))
            is_switch = isinstance(options[name], bool)
            is_right = isinstance(value, (bool, np.bool_)) if is_switch else (
                isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and 0 <= value <= 1)
            if not is_right:
                raise UsageError(f"{self.name} can't be made with this {name}", given=repr(value),
                                 allowed="True or False" if is_switch else "a number from 0 to 1")
        return replace(self, options={**options, **given}) if given else self

    @property
    def num_actions(self) -> int:
        """The number of discrete actions; of continuous ones, the number of components."""
        space = self.action_space
        return int(space.n) if isinstance(space, Discrete) else int(np.prod(space.shape))


@kernel
def settle(
    obs: Bytes, reward: Floats, terminated: Bools, truncated: Bools, final_obs: Bytes, done: Bools,
    episode_return: Floats, episode_length: Counts, returns: Floats, counts: Counts, pending: Bools, restart: Bools,
    limit: int, mode: int, lo: int, hi: int,
) -> tuple[int, int]:
    """What follows ``advance`` in every environment: the time limit, the sums, and which rows begin anew.

    ``truncated`` is true when the episode has ``limit`` steps (0: no limit), whether or not it terminated as well, as
    in Gymnasium. Where an episode ends, ``done`` is true, ``episode_return`` and ``episode_length`` are written, and
    ``obs`` is copied to ``final_obs`` (both as bytes, ``[N, bytes of a row]``).

    By autoreset mode, ``restart`` is true for: SAME_STEP, the episodes that ended now; NEXT_STEP, those that ended in
    the step before (``pending``), for which this step has reward 0 and no flags; DISABLED, none.

    Returns:
        The number of episodes that ended, and of rows to restart.
    """
    num_restarts = 0
    if mode == NEXT_STEP:
        for i in range(lo, hi):
            restart[i] = pending[i]
            if restart[i]:
                num_restarts += 1
                reward[i], terminated[i], pending[i] = 0.0, False, False
                count_episode(counts, returns, i)
                counts[LENGTH, i] = -1  # the loop below makes it 0
    lengths, sums, rewards = counts[LENGTH, lo:hi], returns[lo:hi], reward[lo:hi]
    ends, cuts, either = terminated[lo:hi], truncated[lo:hi], done[lo:hi]
    last = limit if limit > 0 else _NEVER
    num_ended = 0
    for i in range(hi - lo):  # no branches: vectorised
        lengths[i] += 1
        sums[i] += rewards[i]
        cuts[i] = lengths[i] >= last
        either[i] = ends[i] | cuts[i]
    for i in range(lo, hi):
        if done[i]:
            num_ended += 1
            episode_return[i], episode_length[i] = returns[i], counts[LENGTH, i]
            for k in range(obs.shape[1]):
                final_obs[i, k] = obs[i, k]
            if mode == SAME_STEP:
                count_episode(counts, returns, i)
            else:
                pending[i] = True
    if mode == SAME_STEP:
        restart[lo:hi] = either
        num_restarts = num_ended
    return num_ended, num_restarts


@kernel
def count_episode(counts: Counts, returns: Floats, i: int) -> None:
    """Environment ``i`` is in its next episode, with no draws, steps or reward yet."""
    counts[EPISODE, i] += 1
    counts[DRAWS, i] = 0
    counts[LENGTH, i] = 0
    returns[i] = 0.0


@kernel
def all_below(actions: Counts, n: int) -> bool:
    """Whether every action is one of 0 to ``n - 1``."""
    wrong = False
    for i in range(actions.shape[0]):
        wrong |= (actions[i] < 0) | (actions[i] >= n)
    return not wrong


@kernel
def all_finite(actions: Floats32) -> bool:
    """Whether there is no NaN and no infinity."""
    wrong = False
    for i in range(actions.shape[0]):
        for k in range(actions.shape[1]):
            wrong |= not np.isfinite(actions[i, k])
    return not wrong


def as_bytes(rows: NDArray[Any]) -> Bytes:
    """A view of ``[N, ...]`` as ``[N, bytes of a row]``."""
    return rows.reshape(len(rows), -1).view(np.uint8)
