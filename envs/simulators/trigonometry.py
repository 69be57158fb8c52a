"""Sine and cosine without the C library, so that a batch gives the same bits on every machine, and in SIMD loops.

The argument is brought into [-pi/4, pi/4] with pi/2 in three parts (Cody and Waite, "Software Manual for the
Elementary Functions", 1980), then the Taylor polynomials of degree 15 and 16 are summed; their first omitted terms are
below 5e-17 there. The error is at most 2.3e-16 for ``|x| <= 1e5``; beyond that the reduction loses digits.
"""

from __future__ import annotations

import numpy as np

from velodrome.envs.simulators.kernel import kernel

_HALF_PI_1 = 1.5707963267341256  # the first 33 bits of pi/2
_HALF_PI_2 = 6.077100506303966e-11  # the next 33
_HALF_PI_3 = 2.0222662487959506e-21  # the rest
_TWO_OVER_PI = 0.6366197723675814


@kernel
def sin_cos(x: float) -> tuple[float, float]:
    """``(sin(x), cos(x))`` of a float64."""
    turns = np.rint(x * _TWO_OVER_PI)
    r = ((x - turns * _HALF_PI_1) - turns * _HALF_PI_2) - turns * _HALF_PI_3
    z = r * r
    s = r + r * z * (-1 / 6 + z * (1 / 120 + z * (-1 / 5040 + z * (1 / 362880 + z * (
        -1 / 39916800 + z * (1 / 6227020800 + z * (-1 / 1307674368000)))))))
    c = 1.0 - 0.5 * z + z * z * (1 / 24 + z * (-1 / 720 + z * (1 / 40320 + z * (-1 / 3628800 + z * (
        1 / 479001600 + z * (-1 / 87178291200 + z * (1 / 20922789888000)))))))
    quadrant = turns - 4.0 * np.floor(turns * 0.25)
    odd = (quadrant == 1.0) | (quadrant == 3.0)
    sine, cosine = (c, s) if odd else (s, c)
    return -sine if quadrant >= 2.0 else sine, -cosine if (quadrant == 1.0) | (quadrant == 2.0) else cosine
