"""Acrobot-v1: swing a two-link pendulum up by torque at its middle joint (Sutton, NIPS 1995).

Gymnasium's dynamics (the equations of Sutton and Barto's book, Runge-Kutta of order 4 over 0.2 s), in float64, and its
reward: -1 a step, 0 for the step that reaches the goal.
"""

from __future__ import annotations

import math

import numpy as np
from gymnasium.spaces import Box, Discrete

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Floats32, Keys, Simulator
from velodrome.envs.simulators.trigonometry import sin_cos

_TIME_STEP_S = 0.2
_GRAVITY = 9.8
_CENTRE = 0.5  # of mass, along each link; masses, lengths and moments of inertia are 1
_MAX_VELOCITY_1 = 4 * math.pi
_MAX_VELOCITY_2 = 9 * math.pi


@kernel
def accelerations(a1: float, a2: float, v1: float, v2: float, torque: float) -> tuple[float, float]:
    """Angular accelerations of both joints at angles ``a1``, ``a2`` and velocities ``v1``, ``v2``."""
    sin_1, _ = sin_cos(a1)
    sin_2, cos_2 = sin_cos(a2)
    sin_12, _ = sin_cos(a1 + a2)
    d1 = _CENTRE**2 + (1.0 + _CENTRE**2 + 2 * _CENTRE * cos_2) + 2.0
    d2 = (_CENTRE**2 + _CENTRE * cos_2) + 1.0
    phi2 = _CENTRE * _GRAVITY * sin_12  # cos(x - pi/2) is sin(x)
    phi1 = (-_CENTRE * (v2 * v2) * sin_2 - 2 * _CENTRE * v2 * v1 * sin_2
            + (_CENTRE + 1.0) * _GRAVITY * sin_1 + phi2)
    second = (torque + d2 / d1 * phi1 - _CENTRE * (v1 * v1) * sin_2 - phi2) / (_CENTRE**2 + 1.0 - d2 * d2 / d1)
    return -(d2 * second + phi1) / d1, second


@kernel
def wrapped(angle: float) -> float:
    """The angle in [-pi, pi]; one step turns a joint by less than 2 pi."""
    angle = angle - 2 * math.pi if angle > math.pi else angle
    return angle + 2 * math.pi if angle < -math.pi else angle


@kernel
def advance(state: Floats, actions: Counts, obs: Floats32, reward: Floats, terminated: Bools, lo: int, hi: int) -> None:
    """``state``: angle of the first link from straight down, of the second from the first, and both velocities."""
    angles_1, angles_2, velocities_1, velocities_2 = state[0, lo:hi], state[1, lo:hi], state[2, lo:hi], state[3, lo:hi]
    chosen = actions[lo:hi]
    h = _TIME_STEP_S
    for i in range(hi - lo):
        a1, a2, v1, v2, torque = angles_1[i], angles_2[i], velocities_1[i], velocities_2[i], chosen[i] - 1.0
        p1, p2 = accelerations(a1, a2, v1, v2, torque)
        v1_b, v2_b = v1 + h / 2 * p1, v2 + h / 2 * p2
        q1, q2 = accelerations(a1 + h / 2 * v1, a2 + h / 2 * v2, v1_b, v2_b, torque)
        v1_c, v2_c = v1 + h / 2 * q1, v2 + h / 2 * q2
        r1, r2 = accelerations(a1 + h / 2 * v1_b, a2 + h / 2 * v2_b, v1_c, v2_c, torque)
        v1_d, v2_d = v1 + h * r1, v2 + h * r2
        s1, s2 = accelerations(a1 + h * v1_c, a2 + h * v2_c, v1_d, v2_d, torque)
        a1 = wrapped(a1 + h / 6 * (v1 + 2 * v1_b + 2 * v1_c + v1_d))
        a2 = wrapped(a2 + h / 6 * (v2 + 2 * v2_b + 2 * v2_c + v2_d))
        v1 = min(max(v1 + h / 6 * (p1 + 2 * q1 + 2 * r1 + s1), -_MAX_VELOCITY_1), _MAX_VELOCITY_1)
        v2 = min(max(v2 + h / 6 * (p2 + 2 * q2 + 2 * r2 + s2), -_MAX_VELOCITY_2), _MAX_VELOCITY_2)
        angles_1[i], angles_2[i], velocities_1[i], velocities_2[i] = a1, a2, v1, v2
    for i in range(lo, hi):
        show(obs, i, state[0, i], state[1, i], state[2, i], state[3, i])
        _, cos_1 = sin_cos(state[0, i])
        _, cos_12 = sin_cos(state[1, i] + state[0, i])
        terminated[i] = -cos_1 - cos_12 > 1.0
        reward[i] = 0.0 if terminated[i] else -1.0


@kernel
def show(obs: Floats32, i: int, a1: float, a2: float, v1: float, v2: float) -> None:
    """Writes row ``i`` of ``obs``."""
    sin_1, cos_1 = sin_cos(a1)
    sin_2, cos_2 = sin_cos(a2)
    obs[i, 0], obs[i, 1], obs[i, 2], obs[i, 3], obs[i, 4], obs[i, 5] = cos_1, sin_1, cos_2, sin_2, v1, v2


@kernel
def begin(state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int) -> None:
    """All four uniform in [-0.1, 0.1), rounded to float32 as Gymnasium does."""
    for i in range(lo, hi):
        if restart[i]:
            a, b = uniform_pair(keys, counts, i)
            c, d = uniform_pair(keys, counts, i)
            state[0, i], state[1, i], state[2, i], state[3, i] = a, b, c, d
            for k in range(4):
                state[k, i] = np.float32(-0.1 + 0.2 * state[k, i])
            show(obs, i, state[0, i], state[1, i], state[2, i], state[3, i])


_HIGH = np.array([1.0, 1.0, 1.0, 1.0, _MAX_VELOCITY_1, _MAX_VELOCITY_2], np.float32)
ACROBOT = Simulator(
    "Acrobot-v1", Box(-_HIGH, _HIGH, dtype=np.float32), Discrete(3), num_variables=4, max_episode_steps=500,
    advance=advance, begin=begin,
)
