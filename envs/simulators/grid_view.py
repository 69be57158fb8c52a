"""What the grid worlds share: the agent, its moves, and its view (MiniGrid; Chevalier-Boisvert et al., 2023).

A cell is a number whose bits are the planes of an observation, in this order: EMPTY, WALL, GOAL, KEY, SHUT (a door that
stops steps and looks) and UNLOCKED (a door that needs no key). A cell that the agent can't see is 0. So an open door is
UNLOCKED, a closed one both, a locked one SHUT. These say as much as MiniGrid's object, colour and state.

The agent sees the 7 x 7 cells in front of it, turned so that it looks towards row 0 from column 3 of row 6:
``obs[i, column, row, plane]``, as MiniGrid has them. Its own cell shows the key it carries, or is EMPTY.

``state`` begins with the rows X, Y, DIRECTION (0 to 3: east, south, west, north; y grows to the south) and STEPS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.simulator import Bools, Counts, Floats

EMPTY, WALL, GOAL, KEY, SHUT, UNLOCKED = 1, 2, 4, 8, 16, 32
OPEN, CLOSED, LOCKED = UNLOCKED, SHUT | UNLOCKED, SHUT
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
X, Y, DIRECTION, STEPS = range(4)
VIEW = 7

_MIDDLE, _LAST = VIEW // 2, VIEW - 1
_OPAQUE = WALL | SHUT
_IN_THE_WAY = WALL | SHUT | KEY

ACTIONS = Discrete(7)


def view_space(num_planes: int) -> Box[Any]:
    """The observations of a grid world whose cells use the first ``num_planes`` bits: bool ``[7, 7, num_planes]``."""
    return Box(0, 1, (VIEW, VIEW, num_planes), np.bool_)


@kernel
def turn(state: Floats, action: int, i: int) -> None:
    """Turns the agent of environment ``i`` if the action says so, and counts the step."""
    state[DIRECTION, i] = (int(state[DIRECTION, i]) + int(action == RIGHT) - int(action == LEFT)) % 4
    state[STEPS, i] += 1.0


@kernel
def heading(direction: int) -> tuple[int, int]:
    """The step (in x, in y) that leads forward. The one to the right of it is ``(-dy, dx)``."""
    return int(direction == 0) - int(direction == 2), int(direction == 1) - int(direction == 3)


@kernel
def ahead(state: Floats, i: int) -> tuple[int, int]:
    """Where the cell in front of the agent is."""
    dx, dy = heading(int(state[DIRECTION, i]))
    return int(state[X, i]) + dx, int(state[Y, i]) + dy


@kernel
def go_forward(state: Floats, front: int, action: int, max_steps: int, i: int) -> tuple[float, bool]:
    """Moves the agent if the action is FORWARD and nothing is in the way.

    Args:
        state: See the module.
        front: The cell in front of the agent.
        action: Of environment ``i``.
        max_steps: The steps after which the goal is worth least.
        i: The environment.

    Returns:
        The reward, which is ``1 - 0.9 * steps / max_steps`` at the goal and otherwise 0, and whether it is the goal.
    """
    if action != FORWARD or front & _IN_THE_WAY:
        return 0.0, False
    state[X, i], state[Y, i] = ahead(state, i)
    if front != GOAL:
        return 0.0, False
    return 1.0 - 0.9 * (min(state[STEPS, i], float(max_steps)) / max_steps), True


@kernel
def view_origin(state: Floats, i: int) -> tuple[int, int, int, int]:
    """``x, y, dx, dy``: column c, row r of the view is at ``(x - dy * c - dx * r, y + dx * c - dy * r)``."""
    dx, dy = heading(int(state[DIRECTION, i]))
    return int(state[X, i]) + _LAST * dx + _MIDDLE * dy, int(state[Y, i]) + _LAST * dy - _MIDDLE * dx, dx, dy


@kernel
def show(view: Counts, num_planes: int, obs: Bools, i: int) -> None:
    """Writes the planes of the cells that the agent can see, of ``view`` ``[column, row]``, to ``obs[i]``.

    MiniGrid's rule, a row at a time from the agent's own: sight passes from a cell that is not opaque to its neighbours
    to the left and right, and to the three cells beyond it.
    """
    visible = 1 << _MIDDLE  # a bit for each column
    for row in range(_LAST, -1, -1):
        clear = 0
        for column in range(VIEW):
            clear |= int(view[column, row] & _OPAQUE == 0) << column
        passed = visible & clear
        for _ in range(_LAST):
            passed |= (passed << 1 | passed >> 1) & clear
        beyond = passed | passed << 1 | passed >> 1
        visible |= beyond
        for column in range(VIEW):
            view[column, row] *= visible >> column & 1
        visible = beyond
    for column in range(VIEW):
        for row in range(VIEW):
            for plane in range(num_planes):
                obs[i, column, row, plane] = view[column, row] >> plane & 1
