"""MinAtar Breakout: a paddle keeps a ball in play, which breaks three rows of bricks; +1 for each brick.

The ball moves along diagonals and bounces from walls, bricks and paddle. If it meets the paddle in the paddle's own
column it is reflected upwards; if it would only get there by this step's move, it goes back where it came from. The
episode ends when it passes the bottom row. New rows come when it reaches the bottom and no brick is left.

Observation: paddle, ball, where the ball was, bricks.
"""

from __future__ import annotations

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.minatar.common import LEFT, NOTHING, RIGHT, SIZE, draw_row, game, sticky_action
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Keys

_ACTION, _PADDLE, _X, _Y, _DX, _DY, _LAST_X, _LAST_Y, _IN_BRICK, BRICKS = range(10)
_NUM_VARIABLES = BRICKS + 3  # one variable for each row of bricks
_FIRST_ROW, _NUM_ROWS = 1, 3
_FULL_ROW = 2**SIZE - 1
_FIRST_Y, _BOTTOM = 3, SIZE - 1
_ACTIONS = (NOTHING, LEFT, RIGHT)


@kernel
def advance(
    state: Counts, actions: Counts, obs: Bools, reward: Floats, terminated: Bools, keys: Keys, counts: Counts,
    options: Floats, lo: int, hi: int,
) -> None:
    """One step: the paddle, then the ball."""
    for i in range(lo, hi):
        action = sticky_action(state[_ACTION, i], _ACTIONS[actions[i]], keys, counts, options, i)
        state[_ACTION, i] = action
        paddle = state[_PADDLE, i]
        paddle = max(0, paddle - 1) if action == LEFT else (min(SIZE - 1, paddle + 1) if action == RIGHT else paddle)
        state[_PADDLE, i] = paddle
        reward[i], terminated[i] = move_ball(state, paddle, i)
        draw(state, obs, i)


@kernel
def move_ball(state: Counts, paddle: int, i: int) -> tuple[float, bool]:
    """Returns the reward and whether the ball is lost."""
    last_x, last_y = state[_X, i], state[_Y, i]
    dx, dy = state[_DX, i], state[_DY, i]
    x, y = last_x + dx, last_y + dy
    gained, lost, in_brick = 0.0, False, False
    if x < 0 or x >= SIZE:
        x, dx = min(max(x, 0), SIZE - 1), -dx
    row = y - _FIRST_ROW
    if y < 0:
        y, dy = 0, -dy
    elif 0 <= row < _NUM_ROWS and (state[BRICKS + row, i] >> x) & 1:
        in_brick = True
        if not state[_IN_BRICK, i]:  # breaks no second one in the next step
            gained = 1.0
            state[BRICKS + row, i] ^= 1 << x
            y, dy = last_y, -dy
    elif y >= _BOTTOM:
        if state[BRICKS, i] | state[BRICKS + 1, i] | state[BRICKS + 2, i] == 0:
            build(state, i)
        if last_x == paddle:
            y, dy = last_y, -dy
        elif x == paddle:
            y, dx, dy = last_y, -dx, -dy
        else:
            y, lost = _BOTTOM, True
    state[_LAST_X, i], state[_LAST_Y, i] = last_x, last_y
    state[_X, i], state[_Y, i], state[_DX, i], state[_DY, i] = x, y, dx, dy
    state[_IN_BRICK, i] = in_brick
    return gained, lost


@kernel
def build(state: Counts, i: int) -> None:
    """All bricks."""
    for row in range(_NUM_ROWS):
        state[BRICKS + row, i] = _FULL_ROW


@kernel
def begin(state: Counts, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """The ball comes down from the left or from the right wall."""
    for i in range(lo, hi):
        if restart[i]:
            u, _ = uniform_pair(keys, counts, i)
            x, dx = (0, 1) if u < 0.5 else (SIZE - 1, -1)
            state[_ACTION, i], state[_PADDLE, i], state[_IN_BRICK, i] = NOTHING, 4, 0
            state[_X, i], state[_Y, i], state[_DX, i], state[_DY, i] = x, _FIRST_Y, dx, 1
            state[_LAST_X, i], state[_LAST_Y, i] = x, _FIRST_Y
            build(state, i)
            draw(state, obs, i)


@kernel
def draw(state: Counts, obs: Bools, i: int) -> None:
    """The observation."""
    obs[i] = False
    obs[i, _BOTTOM, state[_PADDLE, i], 0] = True
    obs[i, state[_Y, i], state[_X, i], 1] = True
    obs[i, state[_LAST_Y, i], state[_LAST_X, i], 2] = True
    for row in range(_NUM_ROWS):
        draw_row(obs, i, _FIRST_ROW + row, state[BRICKS + row, i], 3)


BREAKOUT = game("Breakout", num_channels=4, num_actions=3, num_variables=_NUM_VARIABLES, advance=advance, begin=begin)
