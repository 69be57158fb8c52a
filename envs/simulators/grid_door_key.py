"""DoorKey: take the key, unlock the door in the wall, reach the goal (MiniGrid; Chevalier-Boisvert et al., 2023).

A square of 5, 6 or 8 cells a side, the outer walls included. The wall, the door in it, and the places of key and agent
on its left side are drawn anew for every episode; the goal is in the far corner.
"""

from __future__ import annotations

import numpy as np

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.grid_view import (
    ACTIONS,
    CLOSED,
    DIRECTION,
    DROP,
    EMPTY,
    GOAL,
    KEY,
    LOCKED,
    OPEN,
    PICKUP,
    STEPS,
    TOGGLE,
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

WALL_X, DOOR_Y, DOOR, KEY_X, KEY_Y, SIZE = range(4, 10)
CARRIED = -9  # where the key is, in x and in y, while the agent has it: out of every view

_NUM_PLANES = 6


@kernel
def advance(state: Floats, actions: Counts, obs: Bools, reward: Floats, terminated: Bools, lo: int, hi: int) -> None:
    """``state``: the agent, the column of the wall, the row of the door, the door, the key, and the side's length."""
    view = np.empty((VIEW, VIEW), np.int64)
    for i in range(lo, hi):
        action = actions[i]
        turn(state, action, i)
        x, y = ahead(state, i)
        front = cell_at(level_of(state, i), x, y)
        carries = state[KEY_X, i] == CARRIED
        if action == PICKUP and front == KEY:
            state[KEY_X, i], state[KEY_Y, i] = CARRIED, CARRIED
        elif action == DROP and front == EMPTY and carries:
            state[KEY_X, i], state[KEY_Y, i] = x, y
        elif action == TOGGLE:
            if front == OPEN:
                state[DOOR, i] = CLOSED
            elif front == CLOSED or (front == LOCKED and carries):
                state[DOOR, i] = OPEN
        size = int(state[SIZE, i])
        reward[i], terminated[i] = go_forward(state, front, action, 10 * size * size, i)
        look(state, view, i)
        show(view, _NUM_PLANES, obs, i)


@kernel
def level_of(state: Floats, i: int) -> tuple[int, int, int, int, int, int]:
    """The rows WALL_X to SIZE of environment ``i``."""
    return (int(state[WALL_X, i]), int(state[DOOR_Y, i]), int(state[DOOR, i]), int(state[KEY_X, i]),
            int(state[KEY_Y, i]), int(state[SIZE, i]))


@kernel
def cell_at(level: tuple[int, int, int, int, int, int], x: int, y: int) -> int:
    """The cell; walls outside of the square."""
    wall_x, door_y, door, key_x, key_y, size = level
    cell = GOAL if (x == size - 2) & (y == size - 2) else EMPTY
    cell = KEY if (x == key_x) & (y == key_y) else cell
    cell = WALL if (x <= 0) | (y <= 0) | (x >= size - 1) | (y >= size - 1) | (x == wall_x) else cell
    return door if (x == wall_x) & (y == door_y) else cell


@kernel
def look(state: Floats, view: Counts, i: int) -> None:
    """Writes the cells in front of the agent to ``view``, ``[column, row]``."""
    x, y, dx, dy = view_origin(state, i)
    level = level_of(state, i)
    for column in range(VIEW):
        for row in range(VIEW):
            view[column, row] = cell_at(level, x - dy * column - dx * row, y + dx * column - dy * row)
    view[VIEW // 2, VIEW - 1] = KEY if state[KEY_X, i] == CARRIED else EMPTY


@kernel
def begin_square(
    state: Floats, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int, size: int
) -> None:
    """Every layout of MiniGrid's is as likely as there: the door is never in the last row."""
    view = np.empty((VIEW, VIEW), np.int64)
    for i in range(lo, hi):
        if restart[i]:
            a, b = uniform_pair(keys, counts, i)
            c, d = uniform_pair(keys, counts, i)
            e, _ = uniform_pair(keys, counts, i)
            wall = 2 + int(a * (size - 4))
            width, num_cells = wall - 1, (wall - 1) * (size - 2)  # of the left side
            agent, key = int(c * num_cells), int(e * (num_cells - 1))
            key += int(key >= agent)  # not the agent's cell
            state[WALL_X, i], state[DOOR_Y, i], state[DOOR, i] = wall, 1 + int(b * (size - 3)), LOCKED
            state[X, i], state[Y, i], state[DIRECTION, i] = 1 + agent % width, 1 + agent // width, int(4.0 * d)
            state[KEY_X, i], state[KEY_Y, i] = 1 + key % width, 1 + key // width
            state[STEPS, i], state[SIZE, i] = 0.0, size
            look(state, view, i)
            show(view, _NUM_PLANES, obs, i)


@kernel
def begin_5(state: Floats, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """A square of 5 x 5."""
    begin_square(state, keys, counts, obs, restart, lo, hi, 5)


@kernel
def begin_6(state: Floats, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """A square of 6 x 6."""
    begin_square(state, keys, counts, obs, restart, lo, hi, 6)


@kernel
def begin_8(state: Floats, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """A square of 8 x 8."""
    begin_square(state, keys, counts, obs, restart, lo, hi, 8)


DOOR_KEY_5, DOOR_KEY_6, DOOR_KEY_8 = (
    Simulator(
        f"DoorKey-{size}x{size}-v0", view_space(_NUM_PLANES), ACTIONS, num_variables=10,
        max_episode_steps=10 * size * size, advance=advance, begin=begin,
    )
    for size, begin in ((5, begin_5), (6, begin_6), (8, begin_8))
)
