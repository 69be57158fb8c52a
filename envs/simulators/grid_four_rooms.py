"""FourRooms: find the goal in four rooms that are joined by gaps (Sutton et al., 1999; MiniGrid's version).

A square of 19 cells a side, the outer walls included. The gaps, the goal and the agent are drawn anew for each episode.
"""

from __future__ import annotations

import numpy as np

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.grid_view import (
    ACTIONS,
    DIRECTION,
    EMPTY,
    GOAL,
    STEPS,
    VIEW,
    WALL,
    X,
    Y,
    ahead,
    go_forward,
    show,
    turn,
    view_origin,
    view_space,
)
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Keys, Simulator

GOAL_X, GOAL_Y, NORTH_GAP, SOUTH_GAP, WEST_GAP, EAST_GAP = range(4, 10)

_ROOM, _MIDDLE, _LAST = 8, 9, 18
_NUM_CELLS = 4 * _ROOM * _ROOM + 4
_MAX_STEPS = 100
_NUM_PLANES = 3


@kernel
def advance(state: Floats, actions: Counts, obs: Bools, reward: Floats, terminated: Bools, lo: int, hi: int) -> None:
    """``state``: the agent, the goal, y of the two gaps in the vertical wall, x of those in the horizontal one."""
    view = np.empty((VIEW, VIEW), np.int64)
    for i in range(lo, hi):
        turn(state, actions[i], i)
        x, y = ahead(state, i)
        reward[i], terminated[i] = go_forward(state, cell_at(level_of(state, i), x, y), actions[i], _MAX_STEPS, i)
        look(state, view, i)
        show(view, _NUM_PLANES, obs, i)


@kernel
def level_of(state: Floats, i: int) -> tuple[int, int, int, int, int, int]:
    """The rows GOAL_X to EAST_GAP of environment ``i``."""
    return (int(state[GOAL_X, i]), int(state[GOAL_Y, i]), int(state[NORTH_GAP, i]), int(state[SOUTH_GAP, i]),
            int(state[WEST_GAP, i]), int(state[EAST_GAP, i]))


@kernel
def cell_at(level: tuple[int, int, int, int, int, int], x: int, y: int) -> int:
    """The cell; walls outside of the square."""
    goal_x, goal_y, north, south, west, east = level
    outside = (x <= 0) | (y <= 0) | (x >= _LAST) | (y >= _LAST)
    vertical = (x == _MIDDLE) & (y != north) & (y != south)
    horizontal = (y == _MIDDLE) & (x != west) & (x != east)
    cell = WALL if outside | vertical | horizontal else EMPTY
    return GOAL if (x == goal_x) & (y == goal_y) else cell


@kernel
def look(state: Floats, view: Counts, i: int) -> None:
    """Writes the cells in front of the agent to ``view``, ``[column, row]``."""
    x, y, dx, dy = view_origin(state, i)
    level = level_of(state, i)
    for column in range(VIEW):
        for row in range(VIEW):
            view[column, row] = cell_at(level, x - dy * column - dx * row, y + dx * column - dy * row)
    view[VIEW // 2, VIEW - 1] = EMPTY


@kernel
def begin(state: Floats, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """Every layout of MiniGrid's is as likely as there; agent and goal may be in a gap."""
    view = np.empty((VIEW, VIEW), np.int64)
    for i in range(lo, hi):
        if restart[i]:
            north, south = uniform_pair(keys, counts, i)
            west, east = uniform_pair(keys, counts, i)
            a, b = uniform_pair(keys, counts, i)
            c, _ = uniform_pair(keys, counts, i)
            state[NORTH_GAP, i], state[WEST_GAP, i] = 1 + int(_ROOM * north), 1 + int(_ROOM * west)
            state[SOUTH_GAP, i], state[EAST_GAP, i] = 10 + int(_ROOM * south), 10 + int(_ROOM * east)
            agent, goal = int(_NUM_CELLS * a), int((_NUM_CELLS - 1) * b)
            goal += int(goal >= agent)  # not the agent's cell
            state[X, i], state[Y, i] = free_cell(state, agent, i)
            state[GOAL_X, i], state[GOAL_Y, i] = free_cell(state, goal, i)
            state[DIRECTION, i], state[STEPS, i] = int(4.0 * c), 0.0
            look(state, view, i)
            show(view, _NUM_PLANES, obs, i)


@kernel
def free_cell(state: Floats, number: int, i: int) -> tuple[float, float]:
    """Where free cell ``number`` is: the rooms' cells, room by room, then the four gaps."""
    room, cell = number // (_ROOM * _ROOM), number % (_ROOM * _ROOM)
    if room < 4:
        return float(1 + cell % _ROOM + _MIDDLE * (room % 2)), float(1 + cell // _ROOM + _MIDDLE * (room // 2))
    if cell < 2:
        return float(_MIDDLE), state[NORTH_GAP + cell, i]
    return state[NORTH_GAP + cell, i], float(_MIDDLE)


FOUR_ROOMS = Simulator(
    "FourRooms-v0", view_space(_NUM_PLANES), ACTIONS, num_variables=10, max_episode_steps=_MAX_STEPS, advance=advance,
    begin=begin,
)
