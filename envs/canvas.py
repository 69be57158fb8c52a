"""A picture that is drawn with NumPy alone: polygons, discs and lines with smooth edges, and cells of one colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Point = tuple[float, float]
Frame = NDArray[np.uint8]


class Canvas:
    """A picture of one colour to draw on. Points are ``(x, y)`` in pixels, y upwards from the lower edge.

    Args:
        width: In pixels.
        height: In pixels.
        background: Its colour, red, green and blue from 0 to 255.
    """

    def __init__(self, width: int, height: int, background: Colour = (255, 255, 255)) -> None:
        self.frame: Frame = np.empty((height, width, 3), np.uint8)
        self.frame[:] = background

    def polygon(self, corners: Sequence[Point], colour: Colour) -> None:
        """Fills a convex polygon whose corners go round counter-clockwise."""
        corner = np.array(corners, np.float64)
        edge = np.roll(corner, -1, 0) - corner
        outward = np.stack([edge[:, 1], -edge[:, 0]], 1) / np.maximum(np.hypot(*edge.T), 1e-9)[:, None]
        offset = (outward * corner).sum(1)
        window = self._window(corner.min(0), corner.max(0))
        x, y = self._centres(window)
        distances = outward[:, 0, None, None] * x + outward[:, 1, None, None] * y - offset[:, None, None]
        self._blend(window, 0.5 - distances.max(0), colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fills a circle."""
        window = self._window(np.array(centre) - radius, np.array(centre) + radius)
        x, y = self._centres(window)
        self._blend(window, 0.5 + radius - np.hypot(x - centre[0], y - centre[1]), colour)

    def line(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        """A straight line with square ends."""
        x, y = end[0] - start[0], end[1] - start[1]
        self.box(start, math.atan2(y, x), (0.0, math.hypot(x, y)), (-width / 2, width / 2), colour)

    def box(
        self, origin: Point, angle: float, along: tuple[float, float], across: tuple[float, float], colour: Colour
    ) -> None:
        """A rectangle that is turned round a point.

        Args:
            origin: The point.
            angle: Of its own x axis, in radians, counter-clockwise from the picture's.
            along: From where to where it goes on that axis, in pixels.
            across: The same on its y axis.
            colour: What to fill it with.
        """
        cos, sin = math.cos(angle), math.sin(angle)
        corners = [(along[0], across[0]), (along[1], across[0]), (along[1], across[1]), (along[0], across[1])]
        self.polygon([(origin[0] + cos * a - sin * b, origin[1] + sin * a + cos * b) for a, b in corners], colour)

    def _window(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, slice]:
        """The rows and columns of the picture that may touch what lies between two points."""
        height, width = self.frame.shape[:2]
        left, right = (int(np.clip(math.floor(x), 0, width)) for x in (low[0] - 1, high[0] + 2))
        top, bottom = (int(np.clip(math.floor(height - y), 0, height)) for y in (high[1] + 1, low[1] - 2))
        return slice(top, bottom), slice(left, right)

    def _centres(self, window: tuple[slice, slice]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the middles of a window's pixels are: x ``[1, W]`` and y ``[H, 1]``."""
        rows, columns = window
        x = np.arange(columns.start, columns.stop) + 0.5
        y = len(self.frame) - np.arange(rows.start, rows.stop) - 0.5
        return x[None], y[:, None]

    def _blend(self, window: tuple[slice, slice], coverage: NDArray[np.float64], colour: Colour) -> None:
        """Lays the colour over a window, as thick as ``coverage`` ``[H, W]`` says: 0 not at all, 1 wholly."""
        under = self.frame[window].astype(np.float64)
        share = np.clip(coverage, 0.0, 1.0)[..., None]
        self.frame[window] = np.rint(under + share * (np.array(colour) - under))


def cells(colours: NDArray[np.uint8], size: int) -> Frame:
    """Squares of ``size`` pixels, one for each of ``colours`` ``[H, W, 3]``, with thin darker lines between."""
    frame = colours.repeat(size, 0).repeat(size, 1)
    frame[::size] = frame[::size] // 4 * 3
    frame[:, ::size] = frame[:, ::size] // 4 * 3
    return frame
