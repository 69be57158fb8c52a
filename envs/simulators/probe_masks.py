"""The kernels of the probes with action masks (``probes`` says what they are for).

Two of four actions are allowed in every step, which only the mask tells; their order decides which of them is right.
"""

from __future__ import annotations

import numpy as np

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Floats32, Keys

MASK_STEPS = 8
MEMORY_STEPS = 4
NUM_MASKED = 4


@kernel
def sign(keys: Keys, counts: Counts, i: int) -> float:
    """The next draw of environment ``i`` as -1 or 1."""
    u, _ = uniform_pair(keys, counts, i)
    return 1.0 if u < 0.5 else -1.0


@kernel
def begin_mask(state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int) -> None:
    """``state``: the pair of allowed actions (0 to 5), the step, and a number that the next pairs come from."""
    for i in range(lo, hi):
        if restart[i]:
            u, _ = uniform_pair(keys, counts, i)
            state[2, i] = np.floor(u * 6.0**MASK_STEPS)
            state[1, i] = 0.0
            next_pair(state, i)
            obs[i, 0] = 0.0


@kernel
def next_pair(state: Floats, i: int) -> None:
    """Takes the next digit to the base 6."""
    rest = np.floor(state[2, i] / 6.0)
    state[0, i] = state[2, i] - 6.0 * rest
    state[2, i] = rest


@kernel
def pair(number: float) -> tuple[int, int]:
    """The pairs of four actions in order: (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)."""
    if number < 3.0:
        return 0, int(number) + 1
    return (1, int(number) - 1) if number < 5.0 else (2, 3)


@kernel
def advance_mask(state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int) -> None:
    """Eight steps; reward 1 for the lower of the allowed actions, 0 for the higher, -1 for one that is not allowed."""
    for i in range(lo, hi):
        low, high = pair(state[0, i])
        reward[i] = 1.0 if actions[i] == low else (0.0 if actions[i] == high else -1.0)
        state[1, i] += 1.0
        ended[i] = state[1, i] >= MASK_STEPS
        obs[i, 0] = 0.0
        next_pair(state, i)


@kernel
def allow_pair(state: Floats, allowed: Bools, lo: int, hi: int) -> None:
    """The mask of ``advance_mask``, which the observation doesn't show."""
    for i in range(lo, hi):
        low, high = pair(state[0, i])
        for k in range(NUM_MASKED):
            allowed[i, k] = k in (low, high)


@kernel
def begin_mask_memory(
    state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int
) -> None:
    """``state``: as of ``begin_mask``, and the cue. ``obs``: the cue, and 1 when it is to be answered."""
    for i in range(lo, hi):
        if restart[i]:
            u, _ = uniform_pair(keys, counts, i)
            state[2, i] = np.floor(u * 6.0**MEMORY_STEPS)
            state[1, i], state[3, i] = 0.0, sign(keys, counts, i)
            next_pair(state, i)
            obs[i, 0], obs[i, 1] = state[3, i], 0.0


@kernel
def advance_mask_memory(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, ended: Bools, lo: int, hi: int
) -> None:
    """Four steps; the last action gives 1 if it is the lower allowed one at cue 1, the higher one at -1; else -1."""
    for i in range(lo, hi):
        low, high = pair(state[0, i])
        right = low if state[3, i] > 0.0 else high
        state[1, i] += 1.0
        ended[i] = state[1, i] >= MEMORY_STEPS
        reward[i] = (1.0 if actions[i] == right else -1.0) if ended[i] else 0.0
        obs[i, 0] = 0.0
        obs[i, 1] = 1.0 if state[1, i] == MEMORY_STEPS - 1 else 0.0
        next_pair(state, i)
