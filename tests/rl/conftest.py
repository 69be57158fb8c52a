"""Hypothesis without a deadline: the machine may be busy."""

from hypothesis import settings

settings.register_profile("velodrome", deadline=None)
settings.load_profile("velodrome")
