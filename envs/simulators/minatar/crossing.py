"""Lists of things that cross the grid to the left or the right, for Seaquest: fish, submarines, divers, shots.

A list is a part of the state, from ``base`` on: its length, then its things from the oldest to the newest. Each is one
number: its place (bits 0 to 3 the column, 4 to 7 the row), its direction, the steps until it moves, and, for what
shoots, the steps until it does.
"""

from __future__ import annotations

from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.minatar.common import SIZE
from velodrome.envs.simulators.simulator import Bools, Counts

PLACE, RIGHTWARDS = 0xFF, 0x100
ONE_STEP, ONE_SHOT_STEP = 0x200, 0x2000  # a step in the timers of moving and of shooting
_ROW, _COLUMN_MASK = 16, 0xF


@kernel
def place(x: int, y: int) -> int:
    """The place of a cell, as it stands in the lowest bits of a thing."""
    return x + _ROW * y


@kernel
def column(thing: int) -> int:
    """Its x."""
    return thing & _COLUMN_MASK


@kernel
def row(thing: int) -> int:
    """Its y."""
    return (thing & PLACE) // _ROW


@kernel
def steps_to_move(thing: int) -> int:
    """Steps until it moves."""
    return thing // ONE_STEP % (ONE_SHOT_STEP // ONE_STEP)


@kernel
def steps_to_shoot(thing: int) -> int:
    """Steps until it shoots."""
    return thing // ONE_SHOT_STEP


@kernel
def from_side(rightwards: bool, y: int) -> int:
    """A thing in the first cell of its way through row ``y``."""
    return place(0, y) | RIGHTWARDS if rightwards else place(SIZE - 1, y)


@kernel
def leaves(thing: int) -> bool:
    """Whether the next cell of its way is outside."""
    return column(thing) == (SIZE - 1 if thing & RIGHTWARDS else 0)


@kernel
def moved(thing: int) -> int:
    """The thing, one cell on."""
    return thing + (1 if thing & RIGHTWARDS else -1)


@kernel
def append(state: Counts, base: int, capacity: int, thing: int, i: int) -> None:
    """Adds a thing at the end, unless the list is full."""
    if state[base, i] < capacity:
        state[base, i] += 1
        state[base + state[base, i], i] = thing


@kernel
def remove(state: Counts, base: int, k: int, i: int) -> None:
    """Removes thing number ``k``, from 0; the others keep their order."""
    for at in range(base + 1 + k, base + state[base, i]):
        state[at, i] = state[at + 1, i]
    state[base, i] -= 1


@kernel
def remove_at(state: Counts, base: int, where: int, i: int) -> bool:
    """Removes the oldest thing at a place; returns whether there was one."""
    for k in range(state[base, i]):
        if state[base + 1 + k, i] & PLACE == where:
            remove(state, base, k, i)
            return True
    return False


@kernel
def is_any_against(state: Counts, base: int, thing: int, i: int) -> bool:
    """Whether something goes through the row of ``thing`` in the other direction."""
    for k in range(state[base, i]):
        other = state[base + 1 + k, i]
        if row(other) == row(thing) and (other ^ thing) & RIGHTWARDS:
            return True
    return False


@kernel
def draw_things(state: Counts, base: int, obs: Bools, channel: int, trail: int, i: int) -> None:
    """Sets the flags of a list, and in channel ``trail``, if that isn't negative, those of the cells behind."""
    for k in range(state[base, i]):
        thing = state[base + 1 + k, i]
        x, y = column(thing), row(thing)
        obs[i, y, x, channel] = True
        behind = x - 1 if thing & RIGHTWARDS else x + 1
        if trail >= 0 and 0 <= behind < SIZE:
            obs[i, y, behind, trail] = True
