"""Simulators, vector environments, wrappers, and adapters to Gymnasium.

Importing it registers the simulators with Gymnasium (``simulators.catalogue`` lists them)::

    import gymnasium as gym
    import velodrome.envs

    envs = gym.make_vec("velodrome/CartPole-v1", num_envs=64)

``gym.make_vec("velodrome.envs:velodrome/CartPole-v1", num_envs=64)`` does both.
"""

from __future__ import annotations

from velodrome.envs.simulators.catalogue import register as _register

_register()
