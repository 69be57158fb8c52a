"""CartPole-v1: a pole on a cart is kept upright by pushes to the left and right (Barto, Sutton and Anderson, 1983).

Gymnasium's dynamics and constants (Euler integration, +1 for every step), computed in float64. CartPoleNoVelocity-v1
shows position and angle alone: the velocities have to be remembered.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from gymnasium.spaces import Box, Discrete

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Floats32, Keys, Simulator
from velodrome.envs.simulators.trigonometry import sin_cos

_GRAVITY = 9.8
_POLE_MASS = 0.1
_TOTAL_MASS = 1.1
_HALF_LENGTH = 0.5
_POLE_MOMENT = _POLE_MASS * _HALF_LENGTH
_FORCE = 10.0
_TIME_STEP_S = 0.02
_MAX_ANGLE = 12 * 2 * math.pi / 360
_MAX_POSITION = 2.4


@kernel
def push(state: Floats, actions: Counts, reward: Floats, terminated: Bools, lo: int, hi: int) -> None:
    """``state``: position, velocity, angle and angular velocity."""
    xs, vs, angles, omegas = state[0, lo:hi], state[1, lo:hi], state[2, lo:hi], state[3, lo:hi]
    chosen, ended = actions[lo:hi], terminated[lo:hi]
    for i in range(hi - lo):
        x, v, angle, omega = xs[i], vs[i], angles[i], omegas[i]
        sin, cos = sin_cos(angle)
        force = 2.0 * _FORCE * chosen[i] - _FORCE
        temp = (force + _POLE_MOMENT * (omega * omega) * sin) / _TOTAL_MASS
        alpha = (_GRAVITY * sin - cos * temp) / (_HALF_LENGTH * (4.0 / 3.0 - _POLE_MASS * (cos * cos) / _TOTAL_MASS))
        acceleration = temp - _POLE_MOMENT * alpha * cos / _TOTAL_MASS
        x, v = x + _TIME_STEP_S * v, v + _TIME_STEP_S * acceleration
        angle, omega = angle + _TIME_STEP_S * omega, omega + _TIME_STEP_S * alpha
        xs[i], vs[i], angles[i], omegas[i] = x, v, angle, omega
        ended[i] = (x < -_MAX_POSITION) | (x > _MAX_POSITION) | (angle < -_MAX_ANGLE) | (angle > _MAX_ANGLE)
    for i in range(lo, hi):
        reward[i] = 1.0


@kernel
def place(state: Floats, keys: Keys, counts: Counts, i: int) -> None:
    """All four uniform in [-0.05, 0.05)."""
    a, b = uniform_pair(keys, counts, i)
    c, d = uniform_pair(keys, counts, i)
    state[0, i], state[1, i], state[2, i], state[3, i] = a, b, c, d
    for k in range(4):
        state[k, i] = -0.05 + 0.1 * state[k, i]


@kernel
def advance(state: Floats, actions: Counts, obs: Floats32, reward: Floats, terminated: Bools, lo: int, hi: int) -> None:
    """The observation is the state."""
    push(state, actions, reward, terminated, lo, hi)
    for i in range(lo, hi):
        for k in range(4):
            obs[i, k] = state[k, i]


@kernel
def begin(state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int) -> None:
    """A new episode, seen whole."""
    for i in range(lo, hi):
        if restart[i]:
            place(state, keys, counts, i)
            for k in range(4):
                obs[i, k] = state[k, i]


@kernel
def advance_no_velocity(
    state: Floats, actions: Counts, obs: Floats32, reward: Floats, terminated: Bools, lo: int, hi: int
) -> None:
    """The observation is position and angle."""
    push(state, actions, reward, terminated, lo, hi)
    for i in range(lo, hi):
        obs[i, 0], obs[i, 1] = state[0, i], state[2, i]


@kernel
def begin_no_velocity(
    state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int
) -> None:
    """A new episode, seen without velocities."""
    for i in range(lo, hi):
        if restart[i]:
            place(state, keys, counts, i)
            obs[i, 0], obs[i, 1] = state[0, i], state[2, i]


_HIGH = np.array([2 * _MAX_POSITION, np.inf, 2 * _MAX_ANGLE, np.inf], np.float32)
CARTPOLE = Simulator(
    "CartPole-v1", Box(-_HIGH, _HIGH, dtype=np.float32), Discrete(2), num_variables=4, max_episode_steps=500,
    advance=advance, begin=begin,
)
CARTPOLE_NO_VELOCITY = replace(
    CARTPOLE, name="CartPoleNoVelocity-v1", observation_space=Box(-_HIGH[::2], _HIGH[::2], dtype=np.float32),
    advance=advance_no_velocity, begin=begin_no_velocity,
)
