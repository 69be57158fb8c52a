"""Probes: tiny environments with a known answer, each of which catches one kind of bug of a learner.

A learner that fails one of them has a bug, and ``catches`` says of which kind; one that passes all may be trusted with
something slower. Start from the first: each needs what those before it test. ``PROBES`` has them by name, with

- ``optimal_return``, the mean return of the best policy, and ``flawed_return``, the best that is left with the bug (or,
  in the probes of values, nothing: there the return is the same whatever the policy does);
- ``value(obs, gamma)``, the value under the optimal policy; None where the observation does not determine it.

Observations are float32; ``+-1`` means that either is as likely, drawn anew for every episode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.probe_masks import (
    MASK_STEPS,
    MEMORY_STEPS,
    NUM_MASKED,
    advance_mask,
    advance_mask_memory,
    allow_pair,
    begin_mask,
    begin_mask_memory,
    sign,
)
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Floats32, Keys, Simulator

_CONTEXT_STEPS = 8
_TRUNCATION_STEPS = 5

Value = Callable[[NDArray[Any], float], float]
Kernel = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Probe:
    """A simulator, what it catches, and its answers (see the module)."""

    simulator: Simulator
    catches: str
    optimal_return: float
    value: Value | None
    flawed_return: float | None = None


@kernel
def begin_at_zero(state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int) -> None:
    """``state``: the step; the observation is 0."""
    for i in range(lo, hi):
        if restart[i]:
            state[0, i] = 0.0
            obs[i, 0] = 0.0


@kernel
def advance_value(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """One step, reward 1."""
    for i in range(lo, hi):
        reward[i], ended[i] = 1.0, True


@kernel
def begin_signs(state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int) -> None:
    """``state``: the sign shown, the step, and the signs to be shown, as the bits of a number."""
    for i in range(lo, hi):
        if restart[i]:
            u, _ = uniform_pair(keys, counts, i)
            state[2, i] = np.floor(u * 65536.0)
            state[1, i] = 0.0
            show_sign(state, obs, i)


@kernel
def show_sign(state: Floats, obs: Floats32, i: int) -> None:
    """Takes the next bit of ``state[2]`` as the sign that is shown."""
    rest = state[2, i]
    half = np.floor(rest / 2.0)
    state[0, i] = 1.0 if rest - 2.0 * half == 1.0 else -1.0
    state[2, i] = half
    obs[i, 0] = state[0, i]


@kernel
def advance_observation(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """One step, the reward is the sign shown."""
    for i in range(lo, hi):
        reward[i], ended[i] = state[0, i], True


@kernel
def advance_discount(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """Two steps, reward 0, then 1."""
    for i in range(lo, hi):
        reward[i], ended[i] = state[0, i], state[0, i] == 1.0
        state[0, i] = 1.0
        obs[i, 0] = 1.0


@kernel
def advance_action(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """One step, reward 1 for action 1, -1 for action 0."""
    for i in range(lo, hi):
        reward[i], ended[i] = 2.0 * actions[i] - 1.0, True


@kernel
def advance_context(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """Eight steps with a sign each; reward 1 for action 1 at +1 and 0 at -1, otherwise -1."""
    for i in range(lo, hi):
        reward[i] = state[0, i] * (2.0 * actions[i] - 1.0)
        state[1, i] += 1.0
        ended[i] = state[1, i] >= _CONTEXT_STEPS
        show_sign(state, obs, i)


@kernel
def advance_credit(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """Two steps; the second gives 1 if the action of the first was 1, else -1. ``state``: step, first action."""
    for i in range(lo, hi):
        if state[0, i] == 0.0:
            state[1, i] = 2.0 * actions[i] - 1.0
            reward[i], ended[i] = 0.0, False
        else:
            reward[i], ended[i] = state[1, i], True
        state[0, i] = 1.0
        obs[i, 0] = 1.0


@kernel
def advance_truncation(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """Reward 1, and no end but the time limit's. The observation stays 0: a critic can't see the limit coming."""
    for i in range(lo, hi):
        reward[i], ended[i] = 1.0, False


@kernel
def begin_memory(state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int) -> None:
    """``state``: the cue, the step. ``obs``: the cue, and 1 when it is to be answered."""
    for i in range(lo, hi):
        if restart[i]:
            state[0, i], state[1, i] = sign(keys, counts, i), 0.0
            obs[i, 0], obs[i, 1] = state[0, i], 0.0


@kernel
def advance_memory(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """Four steps; the cue is seen in the first only, and the last action is rewarded: 1 if it is the cue's, else -1."""
    for i in range(lo, hi):
        state[1, i] += 1.0
        ended[i] = state[1, i] >= MEMORY_STEPS
        reward[i] = state[0, i] * (2.0 * actions[i] - 1.0) if ended[i] else 0.0
        obs[i, 0] = 0.0
        obs[i, 1] = 1.0 if state[1, i] == MEMORY_STEPS - 1 else 0.0


@kernel
def begin_continuous(
    state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int
) -> None:
    """``state``: the target, uniform in [-1, 1), which is shown."""
    for i in range(lo, hi):
        if restart[i]:
            u, _ = uniform_pair(keys, counts, i)
            state[0, i] = -1.0 + 2.0 * u
            obs[i, 0] = state[0, i]


@kernel
def advance_continuous(
    state: Floats, actions: Floats32, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """One step, reward minus the square of action less target."""
    for i in range(lo, hi):
        miss = actions[i, 0] - state[0, i]
        reward[i], ended[i] = -miss * miss, True


def _probe(
    name: str, advance: Kernel, begin: Kernel, *, catches: str, optimal: float, value: Value | None,
    flawed: float | None = None, size: int = 1, variables: int = 1, actions: Discrete | Box | None = None,
    limit: int | None = None, mask: Kernel | None = None,
) -> Probe:
    space = Box(-1.0, 1.0, (size,), np.float32)
    simulator = Simulator(f"Probe{name}-v0", space, actions or Discrete(2), variables, limit, advance, begin, mask)
    return Probe(simulator, catches, optimal, value, flawed)


_ALL = (
    _probe("Value", advance_value, begin_at_zero, optimal=1.0, value=lambda obs, gamma: 1.0,
           catches="a value loss or its optimiser that does not learn even a constant"),
    _probe("Observation", advance_observation, begin_signs, optimal=0.0, value=lambda obs, gamma: float(obs[0]),
           variables=3, catches="observations that do not reach the value function, or in another order than rewards"),
    _probe("Discount", advance_discount, begin_at_zero, optimal=1.0,
           value=lambda obs, gamma: 1.0 if obs[0] > 0.5 else gamma,
           catches="a reward that is credited to the wrong step, or a wrong discount"),
    _probe("Action", advance_action, begin_at_zero, optimal=1.0, flawed=-1.0, value=lambda obs, gamma: 1.0,
           catches="an advantage or a policy loss of the wrong sign"),
    _probe("Context", advance_context, begin_signs, optimal=float(_CONTEXT_STEPS), flawed=0.0, variables=3,
           value=None,
           catches="observations, actions and advantages that are shifted or shuffled against each other"),
    _probe("Credit", advance_credit, begin_at_zero, optimal=1.0, flawed=0.0, variables=2,
           value=lambda obs, gamma: 1.0 if obs[0] > 0.5 else gamma,
           catches="advantages or targets that do not carry a reward back to an earlier step"),
    _probe("Truncation", advance_truncation, begin_at_zero, optimal=float(_TRUNCATION_STEPS), limit=_TRUNCATION_STEPS,
           value=lambda obs, gamma: 1.0 / (1.0 - gamma),
           catches="a truncated episode that is taken for a terminated one: its last value must bootstrap"),
    _probe("Memory", advance_memory, begin_memory, optimal=1.0, flawed=0.0, size=2, variables=2,
           value=None,
           catches="a recurrent state that is not kept, not reset, or lost between sampling and learning"),
    _probe("Mask", advance_mask, begin_mask, optimal=float(MASK_STEPS), flawed=0.0, variables=3,
           actions=Discrete(NUM_MASKED), mask=allow_pair, value=None,
           catches="action masks that are ignored, or applied in sampling but not in the loss"),
    _probe("MaskMemory", advance_mask_memory, begin_mask_memory, optimal=1.0, flawed=0.0, size=2, variables=4,
           actions=Discrete(NUM_MASKED), mask=allow_pair, value=None,
           catches="masks of another step or another environment than the memory's"),
    _probe("Continuous", advance_continuous, begin_continuous, optimal=0.0, flawed=-1 / 3,
           actions=Box(-2.0, 2.0, (1,), np.float32), value=lambda obs, gamma: 0.0,
           catches="a continuous policy whose mean, scale or log-probability is wrong"),
)
PROBES = {probe.simulator.name: probe for probe in _ALL}
VALUE, OBSERVATION, DISCOUNT, ACTION, CONTEXT, CREDIT, TRUNCATION, MEMORY, MASK, MASK_MEMORY, CONTINUOUS = (
    probe.simulator for probe in _ALL)
