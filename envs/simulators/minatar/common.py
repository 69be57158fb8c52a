"""What MinAtar's games share: the actions, sticky actions, the grid of 10 x 10 and its observation of C flags a cell.

A state is int64. Where a variable is a row of the grid, its bit x is the cell in column x. Row 0 is the top.

Draws, in this order, each of ``uniform_pair``: one in every step, whose first number decides whether the action before
is repeated; then those of whatever appears.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Keys, Simulator

SIZE = 10
NOTHING, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
STICKY, RAMPING = 0, 1  # indices of options
OPTIONS = {"sticky_action_prob": 0.1, "difficulty_ramping": True}


@kernel
def sticky_action(last: int, chosen: int, keys: Keys, counts: Counts, options: Floats, i: int) -> int:
    """The action that is really done: the one done before, with the probability of the option, or the chosen one."""
    u, _ = uniform_pair(keys, counts, i)
    return last if u < options[STICKY] else chosen


@kernel
def draw_row(obs: Bools, i: int, y: int, row: int, channel: int) -> None:
    """Sets the flag in the cells of row ``y`` whose bits are set."""
    if row != 0:
        for x in range(SIZE):
            obs[i, y, x, channel] = (row >> x) & 1 == 1


def game(name: str, *, num_channels: int, num_actions: int, num_variables: int, advance: Any, begin: Any) -> Simulator:
    """The simulator of a game, without a time limit, as the package has none."""
    space: Box[Any] = Box(0, 1, (SIZE, SIZE, num_channels), np.bool_)
    return Simulator(
        f"MinAtar-{name}-v1", space, Discrete(num_actions), num_variables, None, advance, begin, state_type=np.int64,
        options=OPTIONS,
    )
