"""Pendulum-v1: swing a pendulum up by torque and hold it there; an episode never terminates.

Gymnasium's dynamics and constants, in float64 (the torque's square and product in float32, as the action is there).
PendulumNoVelocity-v1 shows the angle's cosine and sine alone: the angular velocity has to be remembered.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from gymnasium.spaces import Box

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Floats32, Keys, Simulator
from velodrome.envs.simulators.trigonometry import sin_cos

_MAX_SPEED, _GRAVITY, _TIME_STEP_S = 8.0, 10.0, 0.05
_MAX_TORQUE, _THREE, _COST = np.float32(2.0), np.float32(3.0), np.float32(0.001)
_TURN = 2 * math.pi


@kernel
def swing(state: Floats, actions: Floats32, reward: Floats, terminated: Bools, lo: int, hi: int) -> None:
    """``state``: angle from upright (not wrapped) and angular velocity. Reward: minus angle, speed and torque cost."""
    angles, omegas = state[0, lo:hi], state[1, lo:hi]
    torques, rewards = actions[lo:hi], reward[lo:hi]
    for i in range(hi - lo):
        angle, omega = angles[i], omegas[i]
        torque = min(max(torques[i, 0], -_MAX_TORQUE), _MAX_TORQUE)
        sin, _ = sin_cos(angle)
        off = (angle + math.pi) - np.floor((angle + math.pi) / _TURN) * _TURN - math.pi
        rewards[i] = -(off * off + 0.1 * (omega * omega) + _COST * (torque * torque))
        omega = omega + (3 * _GRAVITY / 2.0 * sin + _THREE * torque) * _TIME_STEP_S
        omega = min(max(omega, -_MAX_SPEED), _MAX_SPEED)
        angle = angle + omega * _TIME_STEP_S
        angles[i], omegas[i] = angle, omega
    for i in range(lo, hi):
        terminated[i] = False


@kernel
def place(state: Floats, keys: Keys, counts: Counts, i: int) -> None:
    """Angle uniform in [-pi, pi), angular velocity in [-1, 1)."""
    a, b = uniform_pair(keys, counts, i)
    state[0, i], state[1, i] = -math.pi + _TURN * a, -1.0 + 2.0 * b


@kernel
def show_angle(state: Floats, obs: Floats32, i: int) -> None:
    """Cosine and sine."""
    sin, cos = sin_cos(state[0, i])
    obs[i, 0], obs[i, 1] = cos, sin


@kernel
def advance(
    state: Floats, actions: Floats32, obs: Floats32, reward: Floats, terminated: Bools, lo: int, hi: int
) -> None:
    """The observation is angle and angular velocity."""
    swing(state, actions, reward, terminated, lo, hi)
    for i in range(lo, hi):
        show_angle(state, obs, i)
        obs[i, 2] = state[1, i]


@kernel
def begin(state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int) -> None:
    """A new episode, seen whole."""
    for i in range(lo, hi):
        if restart[i]:
            place(state, keys, counts, i)
            show_angle(state, obs, i)
            obs[i, 2] = state[1, i]


@kernel
def advance_no_velocity(
    state: Floats, actions: Floats32, obs: Floats32, reward: Floats, terminated: Bools, lo: int, hi: int
) -> None:
    """The observation is the angle."""
    swing(state, actions, reward, terminated, lo, hi)
    for i in range(lo, hi):
        show_angle(state, obs, i)


@kernel
def begin_no_velocity(
    state: Floats, keys: Keys, counts: Counts, obs: Floats32, restart: Bools, lo: int, hi: int
) -> None:
    """A new episode, seen without the velocity."""
    for i in range(lo, hi):
        if restart[i]:
            place(state, keys, counts, i)
            show_angle(state, obs, i)


_HIGH = np.array([1.0, 1.0, _MAX_SPEED], np.float32)
PENDULUM = Simulator(
    "Pendulum-v1", Box(-_HIGH, _HIGH, dtype=np.float32), Box(-2.0, 2.0, (1,), np.float32), num_variables=2,
    max_episode_steps=200, advance=advance, begin=begin,
)
PENDULUM_NO_VELOCITY = replace(
    PENDULUM, name="PendulumNoVelocity-v1", observation_space=Box(-_HIGH[:2], _HIGH[:2], dtype=np.float32),
    advance=advance_no_velocity, begin=begin_no_velocity,
)
