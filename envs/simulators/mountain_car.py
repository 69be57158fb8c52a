"""MountainCar-v0 and MountainCarContinuous-v0: an engine too weak for the hill must first go back (Moore, 1990).

Gymnasium's dynamics and constants. The discrete car is computed in float64; the continuous one in float32, because
Gymnasium keeps its state in float32, and its next state is the same only if every step is rounded as there.
"""

from __future__ import annotations

import math

import numpy as np
from gymnasium.spaces import Box, Discrete

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Floats32, Keys, Simulator
from velodrome.envs.simulators.trigonometry import sin_cos

_LEFT, _RIGHT, _MAX_SPEED = -1.2, 0.6, 0.07
_FORCE, _GRAVITY, _GOAL = 0.001, 0.0025, 0.5
_F32 = np.float32
_LEFT_32, _RIGHT_32, _MAX_SPEED_32, _GOAL_32 = _F32(_LEFT), _F32(_RIGHT), _F32(_MAX_SPEED), _F32(0.45)
_POWER, _ONE, _THREE = 0.0015, _F32(1.0), _F32(3.0)


@kernel
def advance(state: Floats, actions: Counts, obs: Floats32, reward: Floats, terminated: Bools, lo: int, hi: int) -> None:
    """``state``: position and velocity. Reward: -1 a step."""
    positions, velocities = state[0, lo:hi], state[1, lo:hi]
    chosen, ended = actions[lo:hi], terminated[lo:hi]
    for i in range(hi - lo):
        position, velocity = positions[i], velocities[i]
        _, cos = sin_cos(3.0 * position)
        velocity += (chosen[i] - 1.0) * _FORCE + cos * (-_GRAVITY)
        velocity = min(max(velocity, -_MAX_SPEED), _MAX_SPEED)
        position = min(max(position + velocity, _LEFT), _RIGHT)
        velocity = 0.0 if (position == _LEFT) & (velocity < 0.0) else velocity
        positions[i], velocities[i] = position, velocity
        ended[i] = (position >= _GOAL) & (velocity >= 0.0)
    for i in range(lo, hi):
        reward[i] = -1.0
        obs[i, 0], obs[i, 1] = state[0, i], state[1, i]


@kernel
def advance_continuous(
    state: Floats, actions: Floats32, obs: Floats32, reward: Floats, terminated: Bools, lo: int, hi: int
) -> None:
    """``state``: position and velocity, float32 values. Reward: 100 at the goal, less 0.1 of the action's square."""
    for i in range(lo, hi):
        position, velocity = np.float32(state[0, i]), np.float32(state[1, i])
        action = actions[i, 0]
        _, cos = sin_cos(np.float64(_THREE * position))
        if abs(action) > _ONE:  # Gymnasium's clipped force is a Python float, so this sum is rounded only once there
            push = np.float32(math.copysign(_POWER, action) - _GRAVITY * cos)
        else:
            push = action * np.float32(_POWER) - np.float32(_GRAVITY * cos)
        velocity = velocity + push
        velocity = min(max(velocity, -_MAX_SPEED_32), _MAX_SPEED_32)
        position = min(max(position + velocity, _LEFT_32), _RIGHT_32)
        if position == _LEFT_32 and velocity < 0:
            velocity = np.float32(0.0)
        terminated[i] = position >= _GOAL_32 and velocity >= 0
        reward[i] = (100.0 if terminated[i] else 0.0) - np.float64(action) * np.float64(action) * 0.1
        state[0, i], state[1, i] = position, velocity
        obs[i, 0], obs[i, 1] = position, velocity


@kernel
def begin(state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int) -> None:
    """Position uniform in [-0.6, -0.4), at rest."""
    for i in range(lo, hi):
        if restart[i]:
            a, _ = uniform_pair(keys, counts, i)
            state[0, i], state[1, i] = -0.6 + 0.2 * a, 0.0
            obs[i, 0], obs[i, 1] = state[0, i], 0.0


_LOW, _HIGH = np.array([_LEFT, -_MAX_SPEED], np.float32), np.array([_RIGHT, _MAX_SPEED], np.float32)
MOUNTAIN_CAR = Simulator(
    "MountainCar-v0", Box(_LOW, _HIGH, dtype=np.float32), Discrete(3), num_variables=2, max_episode_steps=200,
    advance=advance, begin=begin,
)
MOUNTAIN_CAR_CONTINUOUS = Simulator(
    "MountainCarContinuous-v0", Box(_LOW, _HIGH, dtype=np.float32), Box(-1.0, 1.0, (1,), np.float32), num_variables=2,
    max_episode_steps=999, advance=advance_continuous, begin=begin,
)
