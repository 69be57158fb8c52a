"""Simulators, vector environments, wrappers, and adapters to Gymnasium belong here; there are none yet."""
