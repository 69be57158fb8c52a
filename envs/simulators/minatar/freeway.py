"""MinAtar Freeway: a chicken crosses eight lanes of cars, from the bottom to the top; +1 each time, and back it goes.

It can move every third step. A car that hits it sends it back to the bottom. Each lane has one car, which goes left or
right one cell every 2 to 6 steps and comes in again at the other side; speeds and directions are drawn anew after each
crossing. The episode ends after 2501 steps, the package's own count.

Observation: the chicken, the cars, and the cells behind cars, in one channel for each of the five speeds.
"""

from __future__ import annotations

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.minatar.common import DOWN, NOTHING, SIZE, UP, game, sticky_action
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Keys

_NUM_LANES = SIZE - 2
_ACTION, _Y, _MOVE_TIMER, _STEPS_LEFT, _CARS = range(5)
_TIMERS, _SPEEDS = _CARS + _NUM_LANES, _CARS + 2 * _NUM_LANES  # a speed: steps it waits, negative to the left
_NUM_VARIABLES = _SPEEDS + _NUM_LANES
_COLUMN, _BOTTOM = 4, SIZE - 1  # of the chicken
_MOVE_EVERY, _NUM_STEPS, _NUM_SPEEDS = 3, 2500, 5
_ACTIONS = (NOTHING, UP, DOWN)


@kernel
def advance(
    state: Counts, actions: Counts, obs: Bools, reward: Floats, terminated: Bools, keys: Keys, counts: Counts,
    options: Floats, lo: int, hi: int,
) -> None:
    """One step: the chicken, then the cars from the top lane on."""
    for i in range(lo, hi):
        action = sticky_action(state[_ACTION, i], _ACTIONS[actions[i]], keys, counts, options, i)
        state[_ACTION, i] = action
        y, timer = state[_Y, i], state[_MOVE_TIMER, i]
        if timer == 0 and action != NOTHING:
            timer = _MOVE_EVERY
            y = y - 1 if action == UP else min(_BOTTOM, y + 1)
        reward[i] = 0.0
        if y == 0:
            reward[i], y = 1.0, _BOTTOM
            draw_speeds(state, keys, counts, i)
        for lane in range(_NUM_LANES):
            was_hit = state[_CARS + lane, i] == _COLUMN
            drive(state, lane, i)
            if y == 1 + lane and (was_hit or state[_CARS + lane, i] == _COLUMN):
                y = _BOTTOM
        state[_Y, i], state[_MOVE_TIMER, i] = y, max(0, timer - 1)
        state[_STEPS_LEFT, i] -= 1
        terminated[i] = state[_STEPS_LEFT, i] < 0
        draw(state, obs, i)


@kernel
def drive(state: Counts, lane: int, i: int) -> None:
    """The car of a lane goes on if it is time."""
    speed = state[_SPEEDS + lane, i]
    if state[_TIMERS + lane, i] == 0:
        state[_TIMERS + lane, i] = abs(speed)
        x = state[_CARS + lane, i] + (1 if speed > 0 else -1)
        state[_CARS + lane, i] = 0 if x == SIZE else (SIZE - 1 if x < 0 else x)
    else:
        state[_TIMERS + lane, i] -= 1


@kernel
def draw_speeds(state: Counts, keys: Keys, counts: Counts, i: int) -> None:
    """New speeds and directions for all cars, which stay where they are."""
    for lane in range(_NUM_LANES):
        u, v = uniform_pair(keys, counts, i)
        wait = 1 + int(u * _NUM_SPEEDS)
        state[_TIMERS + lane, i] = wait
        state[_SPEEDS + lane, i] = wait if v >= 0.5 else -wait


@kernel
def begin(state: Counts, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """The chicken at the bottom, all cars at the left."""
    for i in range(lo, hi):
        if restart[i]:
            state[_ACTION, i], state[_Y, i] = NOTHING, _BOTTOM
            state[_MOVE_TIMER, i], state[_STEPS_LEFT, i] = _MOVE_EVERY, _NUM_STEPS
            for lane in range(_NUM_LANES):
                state[_CARS + lane, i] = 0
            draw_speeds(state, keys, counts, i)
            draw(state, obs, i)


@kernel
def draw(state: Counts, obs: Bools, i: int) -> None:
    """The observation."""
    obs[i] = False
    obs[i, state[_Y, i], _COLUMN, 0] = True
    for lane in range(_NUM_LANES):
        x, speed = state[_CARS + lane, i], state[_SPEEDS + lane, i]
        behind = x - 1 if speed > 0 else x + 1
        behind = SIZE - 1 if behind < 0 else (0 if behind == SIZE else behind)
        obs[i, 1 + lane, x, 1] = True
        obs[i, 1 + lane, behind, 1 + abs(speed)] = True


FREEWAY = game("Freeway", num_channels=7, num_actions=3, num_variables=_NUM_VARIABLES, advance=advance, begin=begin)
