"""Reinforcement learning: returns, distributions, losses and networks as pure functions and modules; PPO; its training.

``velodrome.rl.training`` is the objective behind ``velo train``; the other modules load torch and are loaded by it.
"""
