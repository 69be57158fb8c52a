"""MinAtar Asterix: the player moves in four directions among things that cross the eight middle rows; +1 for gold.

In every row at most one thing, an enemy or (one in three) gold, comes from the left or the right side, moves one cell
at a time, and leaves at the other side. Touching an enemy ends the episode. With difficulty ramping the things come,
and then also move, more often every 102 steps.

Observation: player, enemies, the cells behind enemies and gold, gold.
"""

from __future__ import annotations

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.minatar.common import (
    DOWN,
    LEFT,
    NOTHING,
    RAMPING,
    RIGHT,
    SIZE,
    UP,
    game,
    sticky_action,
)
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Keys

_ACTION, _X, _Y, _SPAWN_TIMER, _MOVE_TIMER, _SPAWN_EVERY, _MOVE_EVERY, _RAMP_TIMER, _NUM_RAMPS, _THINGS = range(10)
_NUM_ROWS = SIZE - 2
_NUM_VARIABLES = _THINGS + 2 * _NUM_ROWS  # for each row: the column of its thing, then the kinds of all rows
_KINDS = _THINGS + _NUM_ROWS
_NONE = -1
_TO_THE_RIGHT, _GOLD = 1, 2  # bits of a kind
_FIRST_SPAWN_EVERY, _FIRST_MOVE_EVERY, _RAMP_EVERY = 10, 5, 100
_GOLD_PROB = 1.0 / 3.0


@kernel
def advance(
    state: Counts, actions: Counts, obs: Bools, reward: Floats, terminated: Bools, keys: Keys, counts: Counts,
    options: Floats, lo: int, hi: int,
) -> None:
    """One step: something new, the player, the things."""
    for i in range(lo, hi):
        action = sticky_action(state[_ACTION, i], actions[i], keys, counts, options, i)  # 0 to 4, as the game has them
        state[_ACTION, i] = action
        if state[_SPAWN_TIMER, i] == 0:
            spawn(state, keys, counts, i)
            state[_SPAWN_TIMER, i] = state[_SPAWN_EVERY, i]
        state[_X, i] += (action == RIGHT and state[_X, i] < SIZE - 1) - (action == LEFT and state[_X, i] > 0)
        state[_Y, i] += (action == DOWN and state[_Y, i] < _NUM_ROWS) - (action == UP and state[_Y, i] > 1)
        gained, hit = touch(state, i)
        if state[_MOVE_TIMER, i] == 0:
            state[_MOVE_TIMER, i] = state[_MOVE_EVERY, i]
            move_things(state, i)
            gained_after, hit_after = touch(state, i)
            gained, hit = gained + gained_after, hit or hit_after
        reward[i], terminated[i] = gained, hit
        state[_SPAWN_TIMER, i] -= 1
        state[_MOVE_TIMER, i] -= 1
        if options[RAMPING] and (state[_SPAWN_EVERY, i] > 1 or state[_MOVE_EVERY, i] > 1):
            ramp(state, i)
        draw(state, obs, i)


@kernel
def spawn(state: Counts, keys: Keys, counts: Counts, i: int) -> None:
    """Something in one of the empty rows, if there is one."""
    u, v = uniform_pair(keys, counts, i)
    kind = (_TO_THE_RIGHT if u < 0.5 else 0) | (_GOLD if v < _GOLD_PROB else 0)
    num_empty = 0
    for row in range(_NUM_ROWS):
        num_empty += state[_THINGS + row, i] == _NONE
    if num_empty == 0:
        return
    u, v = uniform_pair(keys, counts, i)
    nth = int(u * num_empty)
    for row in range(_NUM_ROWS):
        if state[_THINGS + row, i] == _NONE:
            if nth == 0:
                state[_THINGS + row, i] = 0 if kind & _TO_THE_RIGHT else SIZE - 1
                state[_KINDS + row, i] = kind
            nth -= 1


@kernel
def touch(state: Counts, i: int) -> tuple[float, bool]:
    """Takes the gold where the player is; returns the reward and whether an enemy is there."""
    row = state[_Y, i] - 1
    if state[_THINGS + row, i] != state[_X, i]:
        return 0.0, False
    if state[_KINDS + row, i] & _GOLD:
        state[_THINGS + row, i] = _NONE
        return 1.0, False
    return 0.0, True


@kernel
def move_things(state: Counts, i: int) -> None:
    """Everything one cell on; what leaves the grid is gone."""
    for row in range(_NUM_ROWS):
        x = state[_THINGS + row, i]
        if x != _NONE:
            x += 1 if state[_KINDS + row, i] & _TO_THE_RIGHT else -1
            state[_THINGS + row, i] = x if x < SIZE else _NONE  # to the left of column 0 is _NONE


@kernel
def ramp(state: Counts, i: int) -> None:
    """Counts down to the next increase of difficulty."""
    state[_RAMP_TIMER, i] -= 1
    if state[_RAMP_TIMER, i] < -1:
        if state[_MOVE_EVERY, i] > 1 and state[_NUM_RAMPS, i] % 2 == 1:
            state[_MOVE_EVERY, i] -= 1
        if state[_SPAWN_EVERY, i] > 1:
            state[_SPAWN_EVERY, i] -= 1
        state[_NUM_RAMPS, i] += 1
        state[_RAMP_TIMER, i] = _RAMP_EVERY


@kernel
def begin(state: Counts, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """The player in the middle, and nothing else."""
    for i in range(lo, hi):
        if restart[i]:
            state[_ACTION, i], state[_X, i], state[_Y, i] = NOTHING, 5, 5
            state[_SPAWN_TIMER, i] = state[_SPAWN_EVERY, i] = _FIRST_SPAWN_EVERY
            state[_MOVE_TIMER, i] = state[_MOVE_EVERY, i] = _FIRST_MOVE_EVERY
            state[_RAMP_TIMER, i], state[_NUM_RAMPS, i] = _RAMP_EVERY, 0
            for row in range(_NUM_ROWS):
                state[_THINGS + row, i], state[_KINDS + row, i] = _NONE, 0
            draw(state, obs, i)


@kernel
def draw(state: Counts, obs: Bools, i: int) -> None:
    """The observation."""
    obs[i] = False
    obs[i, state[_Y, i], state[_X, i], 0] = True
    for row in range(_NUM_ROWS):
        x, kind = state[_THINGS + row, i], state[_KINDS + row, i]
        if x != _NONE:
            obs[i, 1 + row, x, 3 if kind & _GOLD else 1] = True
            behind = x - 1 if kind & _TO_THE_RIGHT else x + 1
            if 0 <= behind < SIZE:
                obs[i, 1 + row, behind, 2] = True


ASTERIX = game("Asterix", num_channels=4, num_actions=5, num_variables=_NUM_VARIABLES, advance=advance, begin=begin)
