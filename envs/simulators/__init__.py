"""Batched simulators: dynamics as numba kernels on arrays of many environments (``simulator``, ``batch``)."""
