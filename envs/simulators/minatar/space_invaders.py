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
_SHOTS, _ALIEN_SHOTS = _ALIENS + SIZE, _ALIENS + 2 * SIZE  # like the aliens: one variable for each row
_NUM_VARIABLES = _ALIEN_SHOTS + SIZE
_BOTTOM = SIZE - 1
_WAVE, _NUM_WAVE_ROWS = 0b0011111100, 4
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
        ended = (state[_ALIEN_SHOTS + _BOTTOM, i] >> x) & 1 == 1
        ended |= (state[_ALIENS + _BOTTOM, i] >> x) & 1 == 1
        if state[_MOVE_TIMER, i] == 0:
            state[_MOVE_TIMER, i] = min(num_aliens(state, i), state[_MOVE_EVERY, i])
            ended |= move_aliens(state, i)
            ended |= (state[_ALIENS + _BOTTOM, i] >> x) & 1 == 1
        if state[_ALIEN_SHOT_TIMER, i] == 0:
            state[_ALIEN_SHOT_TIMER, i] = _ALIEN_SHOT_EVERY
            shoot_from_nearest(state, x, i)
        reward[i], terminated[i] = hit_aliens(state, i), ended
        state[_SHOT_TIMER, i] -= state[_SHOT_TIMER, i] > 0
        state[_MOVE_TIMER, i] -= 1
        state[_ALIEN_SHOT_TIMER, i] -= 1
        if columns(state, i) == 0:
            if options[RAMPING] and state[_MOVE_EVERY, i] > _LEAST_MOVE_EVERY:
                state[_MOVE_EVERY, i] -= 1
            begin_wave(state, i)
        draw(state, obs, i)


@kernel
def move_shots(state: Counts, i: int, fired: int) -> None:
    """The cannon's shots (and ``fired`` in its row) one row up, the aliens' one row down."""
    for y in range(_BOTTOM):
        state[_SHOTS + y, i] = state[_SHOTS + y + 1, i]
    state[_SHOTS + _BOTTOM - 1, i] |= fired
    state[_SHOTS + _BOTTOM, i] = 0
    for y in range(_BOTTOM, 0, -1):
        state[_ALIEN_SHOTS + y, i] = state[_ALIEN_SHOTS + y - 1, i]
    state[_ALIEN_SHOTS, i] = 0


@kernel
def num_aliens(state: Counts, i: int) -> int:
    """How many are left."""
    number = 0
    for y in range(SIZE):
        number += num_bits(state[_ALIENS + y, i])
    return number


@kernel
def num_bits(row: int) -> int:
    """How many cells of a row are set."""
    number = 0
    while row:
        row &= row - 1
        number += 1
    return number


@kernel
def columns(state: Counts, i: int) -> int:
    """The columns in which there are aliens, as the bits of a row."""
    either = 0
    for y in range(SIZE):
        either |= state[_ALIENS + y, i]
    return either


@kernel
def move_aliens(state: Counts, i: int) -> bool:
    """One cell on, or down at an edge; returns whether one was in the last row already (it comes back at the top)."""
    edge = _LEFT_EDGE if state[_ALIEN_DX, i] < 0 else _RIGHT_EDGE
    if columns(state, i) & edge:
        state[_ALIEN_DX, i] = -state[_ALIEN_DX, i]
        last = state[_ALIENS + _BOTTOM, i]
        for y in range(_BOTTOM, 0, -1):
            state[_ALIENS + y, i] = state[_ALIENS + y - 1, i]
        state[_ALIENS, i] = last
        return bool(last != 0)
    for y in range(SIZE):
        row = state[_ALIENS + y, i]
        state[_ALIENS + y, i] = row >> 1 if state[_ALIEN_DX, i] < 0 else row << 1
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
        if nearest >= 0 and (state[_ALIENS + y, i] >> nearest) & 1:
            state[_ALIEN_SHOTS + y, i] |= 1 << nearest
            return


@kernel
def hit_aliens(state: Counts, i: int) -> float:
    """Removes aliens and shots that are in one cell; returns the reward."""
    gained = 0.0
    for y in range(SIZE):
        hit = state[_ALIENS + y, i] & state[_SHOTS + y, i]
        if hit:
            gained += num_bits(hit)
            state[_ALIENS + y, i] ^= hit
            state[_SHOTS + y, i] ^= hit
    return gained


@kernel
def begin_wave(state: Counts, i: int) -> None:
    """All aliens at the top."""
    for y in range(SIZE):
        state[_ALIENS + y, i] = _WAVE if y < _NUM_WAVE_ROWS else 0


@kernel
def begin(state: Counts, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """The cannon right of the middle, aliens that go left, no shots."""
    for i in range(lo, hi):
        if restart[i]:
            state[_ACTION, i], state[_X, i], state[_ALIEN_DX, i], state[_SHOT_TIMER, i] = NOTHING, 5, -1, 0
            state[_MOVE_EVERY, i] = state[_MOVE_TIMER, i] = _FIRST_MOVE_EVERY
            state[_ALIEN_SHOT_TIMER, i] = _ALIEN_SHOT_EVERY
            for y in range(SIZE):
                state[_SHOTS + y, i] = state[_ALIEN_SHOTS + y, i] = 0
            begin_wave(state, i)
            draw(state, obs, i)


@kernel
def draw(state: Counts, obs: Bools, i: int) -> None:
    """The observation."""
    obs[i] = False
    obs[i, _BOTTOM, state[_X, i], 0] = True
    direction = 2 if state[_ALIEN_DX, i] < 0 else 3
    for y in range(SIZE):
        draw_row(obs, i, y, state[_ALIENS + y, i], 1)
        draw_row(obs, i, y, state[_ALIENS + y, i], direction)
        draw_row(obs, i, y, state[_SHOTS + y, i], 4)
        draw_row(obs, i, y, state[_ALIEN_SHOTS + y, i], 5)


SPACE_INVADERS = game(
    "SpaceInvaders", num_channels=6, num_actions=4, num_variables=_NUM_VARIABLES, advance=advance, begin=begin)
