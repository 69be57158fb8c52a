"""Batch renormalisation of a layer on a CPU, compiled: two passes over the numbers each way.

``torch.var_mean`` over the rows of 512 x 256 numbers takes longer than the product of two such matrices; these loops
take a tenth of it. What they compute is ``BatchRenorm``'s.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def _normalize_python(
    x: Floats, scale: Floats, shift: Floats, run_mean: Floats, run_var: Floats, is_warm: bool, momentum: float,
    eps: float, max_r: float, max_d: float, y: Floats, saved: Floats,
) -> None:
    """Normalises ``x`` ``[B, H]`` to ``y`` by its own statistics, corrected once the running ones are warm.

    Updates the running statistics. ``saved`` ``[4, H]`` gets the mean, 1 / deviation, r and d, for the way back.
    """
    num_rows, num_units = x.shape
    total = np.zeros(num_units, np.float32)
    for b in range(num_rows):
        for h in range(num_units):
            total[h] += x[b, h]
    mean, inverse, r, d = saved[0], saved[1], saved[2], saved[3]
    squares = np.zeros(num_units, np.float32)
    for h in range(num_units):
        mean[h] = total[h] / np.float32(num_rows)
    for b in range(num_rows):
        for h in range(num_units):
            off = x[b, h] - mean[h]
            squares[h] += off * off
    factor, offset = np.empty(num_units, np.float32), np.empty(num_units, np.float32)
    for h in range(num_units):
        variance = squares[h] / np.float32(num_rows)
        std = np.sqrt(variance + np.float32(eps))
        inverse[h] = np.float32(1.0) / std
        r[h], d[h] = np.float32(1.0), np.float32(0.0)
        if is_warm:
            run_std = np.sqrt(run_var[h] + np.float32(eps))
            r[h] = min(max(std / run_std, np.float32(1.0 / max_r)), np.float32(max_r))
            d[h] = min(max((mean[h] - run_mean[h]) / run_std, np.float32(-max_d)), np.float32(max_d))
        factor[h] = inverse[h] * r[h] * scale[h]
        offset[h] = d[h] * scale[h] + shift[h] - mean[h] * factor[h]
        run_mean[h] += np.float32(1.0 - momentum) * (mean[h] - run_mean[h])
        run_var[h] += np.float32(1.0 - momentum) * (variance - run_var[h])
    for b in range(num_rows):
        for h in range(num_units):
            y[b, h] = x[b, h] * factor[h] + offset[h]


def _pull_python(
    gradient: Floats, x: Floats, scale: Floats, saved: Floats, rectified: bool, by_scale: Floats, by_shift: Floats,
    by_x: Floats,
) -> None:
    """The way back: from the gradient by ``y`` to those by scale and shift (added) and by ``x`` (written).

    If ``rectified``, x is what a ReLU gave, and the gradient is that before it. r and d are constants. ``by_x`` is
    memory of its own: over the gradient the loops would not be vectorised.
    """
    num_rows, num_units = x.shape
    mean, inverse, r, d = saved[0], saved[1], saved[2], saved[3]
    total, along = np.zeros(num_units, np.float32), np.zeros(num_units, np.float32)
    for b in range(num_rows):
        for h in range(num_units):
            total[h] += gradient[b, h]
            along[h] += gradient[b, h] * (x[b, h] - mean[h])
    slope, lift = np.empty(num_units, np.float32), np.empty(num_units, np.float32)
    factor = np.empty(num_units, np.float32)
    for h in range(num_units):
        z = along[h] * inverse[h]  # the sum of gradient times normalised x
        by_scale[h] += r[h] * z + d[h] * total[h]
        by_shift[h] += total[h]
        factor[h] = inverse[h] * r[h] * scale[h]
        slope[h] = factor[h] * z * inverse[h] / np.float32(num_rows)
        lift[h] = factor[h] * total[h] / np.float32(num_rows) - slope[h] * mean[h]
    for b in range(num_rows):
        for h in range(num_units):
            by_x[b, h] = factor[h] * gradient[b, h] - slope[h] * x[b, h] - lift[h]
            if rectified and x[b, h] <= 0.0:
                by_x[b, h] = 0.0


normalize: Callable[..., None] = numba.njit(cache=True, nogil=True, error_model="numpy")(_normalize_python)
"""See ``_normalize_python``."""
pull: Callable[..., None] = numba.njit(cache=True, nogil=True, error_model="numpy")(_pull_python)
"""See ``_pull_python``."""
