"""Actors, learners, algorithms, rollouts, replay and evaluation belong here; there are none yet."""
