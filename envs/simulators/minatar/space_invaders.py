"""MinAtar Space Invaders: a cannon at the bottom shoots at 24 aliens above it; +1 for each alien.

The aliens move sideways in step, and at an edge turn and come down a row: the fewer there are, the more often. The
nearest one shoots every ten steps. A shot or an alien that meets the cannon ends the episode, and so does an alien that
would come down from the last row. With difficulty ramping each new wave moves more often than the one before.

Observation: cannon, aliens, aliens while they go left, aliens while they go right, own shots, the aliens' shots.
"""

from __future__ import annotations

from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.minatar.common import (
    FIRE,
    LEFT,
    NOTHING,
    RAMPING,
    RIGHT,
    SIZE,
    draw_row,
    game,
    sticky_action,
)
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Keys

_ACTION, _X, _ALIEN_DX, _MOVE_EVERY, _MOVE_TIMER, _ALIEN_SHOT_TIMER, _SHOT_TIMER, _ALIENS = range(8)
_SHOTS, _ALIEN_SHOTS = _ALIENS + 2, _ALIENS + 4  # like the aliens: a variable for rows 0 to 4, one for rows 5 to 9
_NUM_VARIABLES = _ALIEN_SHOTS + 2
_BOTTOM, _HALF = SIZE - 1, SIZE // 2
_ROW = 2**SIZE - 1  # the first row of a half; cell x of row y is bit SIZE * y + x
_LAST = SIZE * (_HALF - 1)  # how far the last row of a half is shifted
_HALF_FULL = 2 ** (SIZE * _HALF) - 1
_WAVE = 0b0011111100 * (1 + 2**SIZE + 2 ** (2 * SIZE) + 2 ** (3 * SIZE))  # four rows
_FIRST_MOVE_EVERY, _LEAST_MOVE_EVERY = 12, 6
_ALIEN_SHOT_EVERY, _SHOT_EVERY = 10, 5
_LEFT_EDGE, _RIGHT_EDGE = 1, 1 << (SIZE - 1)
_ACTIONS = (NOTHING, LEFT, RIGHT, FIRE)


@kernel
def advance(
    state: Counts, actions: Counts, obs: Bools, reward: Floats, terminated: Bools, keys: Keys, counts: Counts,
    options: Floats, lo: int, hi: int,
) -> None:
    """One step: the cannon, all shots, the aliens, an alien's new shot, then what is hit."""
    for i in range(lo, hi):
        action = sticky_action(state[_ACTION, i], _ACTIONS[actions[i]], keys, counts, options, i)
        state[_ACTION, i] = action
        x = state[_X, i] + (action == RIGHT and state[_X, i] < SIZE - 1) - (action == LEFT and state[_X, i] > 0)
        state[_X, i] = x
        fires = action == FIRE and state[_SHOT_TIMER, i] == 0
        if fires:
            state[_SHOT_TIMER, i] = _SHOT_EVERY
        move_shots(state, i, 1 << x if fires else 0)
        bottom = 1 << (_LAST + x)
        ended = (state[_ALIEN_SHOTS + 1, i] | state[_ALIENS + 1, i]) & bottom != 0
        if state[_MOVE_TIMER, i] == 0:
            num_aliens = num_bits(state[_ALIENS, i]) + num_bits(state[_ALIENS + 1, i])
            state[_MOVE_TIMER, i] = min(num_aliens, state[_MOVE_EVERY, i])
            ended |= move_aliens(state, i)
            ended |= state[_ALIENS + 1, i] & bottom != 0
        if state[_ALIEN_SHOT_TIMER, i] == 0:
            state[_ALIEN_SHOT_TIMER, i] = _ALIEN_SHOT_EVERY
            shoot_from_nearest(state, x, i)
        reward[i], terminated[i] = hit_aliens(state, i), ended
        state[_SHOT_TIMER, i] -= state[_SHOT_TIMER, i] > 0
        state[_MOVE_TIMER, i] -= 1
        state[_ALIEN_SHOT_TIMER, i] -= 1
        if state[_ALIENS, i] | state[_ALIENS + 1, i] == 0:
            if options[RAMPING] and state[_MOVE_EVERY, i] > _LEAST_MOVE_EVERY:
                state[_MOVE_EVERY, i] -= 1
            begin_wave(state, i)
        draw(state, obs, i)


@kernel
def move_shots(state: Counts, i: int, fired: int) -> None:
    """The cannon's shots (and ``fired`` in its row) one row up, the aliens' one row down."""
    upper, lower = state[_SHOTS, i], state[_SHOTS + 1, i] | (fired << _LAST)
    state[_SHOTS, i] = (upper >> SIZE) | ((lower & _ROW) << _LAST)
    state[_SHOTS + 1, i] = lower >> SIZE
    upper, lower = state[_ALIEN_SHOTS, i], state[_ALIEN_SHOTS + 1, i]
    state[_ALIEN_SHOTS, i] = (upper << SIZE) & _HALF_FULL
    state[_ALIEN_SHOTS + 1, i] = ((lower << SIZE) & _HALF_FULL) | (upper >> _LAST)


@kernel
def num_bits(half: int) -> int:
    """How many cells are set."""
    number = 0
    while half:
        half &= half - 1
        number += 1
    return number


@kernel
def row(state: Counts, base: int, y: int, i: int) -> int:
    """The cells of row ``y``."""
    return int((state[base + y // _HALF, i] >> (SIZE * (y % _HALF))) & _ROW)


@kernel
def columns(state: Counts, i: int) -> int:
    """The columns in which there are aliens, as the bits of a row."""
    both = state[_ALIENS, i] | state[_ALIENS + 1, i]
    taken = 0
    for y in range(_HALF):
        taken |= (both >> (SIZE * y)) & _ROW
    return taken


@kernel
def move_aliens(state: Counts, i: int) -> bool:
    """One cell on, or down at an edge; returns whether one was in the last row already (it comes back at the top)."""
    upper, lower = state[_ALIENS, i], state[_ALIENS + 1, i]
    is_left = state[_ALIEN_DX, i] < 0
    if columns(state, i) & (_LEFT_EDGE if is_left else _RIGHT_EDGE):
        state[_ALIEN_DX, i] = -state[_ALIEN_DX, i]
        state[_ALIENS, i] = ((upper << SIZE) & _HALF_FULL) | (lower >> _LAST)
        state[_ALIENS + 1, i] = ((lower << SIZE) & _HALF_FULL) | (upper >> _LAST)
        return bool(lower >> _LAST != 0)
    state[_ALIENS, i] = upper >> 1 if is_left else upper << 1  # nothing in the column that would run into the next row
    state[_ALIENS + 1, i] = lower >> 1 if is_left else lower << 1
    return False


@kernel
def shoot_from_nearest(state: Counts, x: int, i: int) -> None:
    """A shot from the lowest alien in the column nearest to the cannon's, the left one of two."""
    taken = columns(state, i)
    nearest = -SIZE
    for column in range(SIZE):
        if (taken >> column) & 1 and abs(column - x) < abs(nearest - x):
            nearest = column
    for y in range(_BOTTOM, -1, -1):
        if nearest >= 0 and (row(state, _ALIENS, y, i) >> nearest) & 1:
            state[_ALIEN_SHOTS + y // _HALF, i] |= 1 << (SIZE * (y % _HALF) + nearest)
            return


@kernel
def hit_aliens(state: Counts, i: int) -> float:
    """Removes aliens and shots that are in one cell; returns the reward."""
    gained = 0.0
    for half in range(2):
        hit = state[_ALIENS + half, i] & state[_SHOTS + half, i]
        gained += num_bits(hit)
        state[_ALIENS + half, i] ^= hit
        state[_SHOTS + half, i] ^= hit
    return gained


@kernel
def begin_wave(state: Counts, i: int) -> None:
    """All aliens at the top."""
    state[_ALIENS, i], state[_ALIENS + 1, i] = _WAVE, 0


@kernel
def begin(state: Counts, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """The cannon right of the middle, aliens that go left, no shots."""
    for i in range(lo, hi):
        if restart[i]:
            state[_ACTION, i], state[_X, i], state[_ALIEN_DX, i], state[_SHOT_TIMER, i] = NOTHING, 5, -1, 0
            state[_MOVE_EVERY, i] = state[_MOVE_TIMER, i] = _FIRST_MOVE_EVERY
            state[_ALIEN_SHOT_TIMER, i] = _ALIEN_SHOT_EVERY
            for half in range(2):
                state[_SHOTS + half, i] = state[_ALIEN_SHOTS + half, i] = 0
            begin_wave(state, i)
            draw(state, obs, i)


@kernel
def draw(state: Counts, obs: Bools, i: int) -> None:
    """The observation."""
    obs[i] = False
    obs[i, _BOTTOM, state[_X, i], 0] = True
    direction = 2 if state[_ALIEN_DX, i] < 0 else 3
    for y in range(SIZE):
        draw_row(obs, i, y, row(state, _ALIENS, y, i), 1)
        draw_row(obs, i, y, row(state, _ALIENS, y, i), direction)
        draw_row(obs, i, y, row(state, _SHOTS, y, i), 4)
        draw_row(obs, i, y, row(state, _ALIEN_SHOTS, y, i), 5)


SPACE_INVADERS = game(
    "SpaceInvaders", num_channels=6, num_actions=4, num_variables=_NUM_VARIABLES, advance=advance, begin=begin)
