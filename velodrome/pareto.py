"""The Pareto front of many points, those that no other beats in every goal, and the volume that it wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Point = tuple[float, ...]


def front(points: Sequence[Point]) -> list[int]:
    """The indices, in order, of the points that no other dominates. All are finite, and lower is better everywhere.

    A point dominates another that it equals or beats in all coordinates and beats in one, so equal points are on the
    front together. In sorted order only an earlier point can dominate a later one (Kung, Luccio and Preparata 1975,
    https://doi.org/10.1145/321906.321910): two coordinates take O(n log n), more take O(n f)
    for a front of f points.
    """
    if not points:
        return []
    is_dominated = _watch_two() if len(points[0]) <= 2 else _watch_many(len(points[0]))
    found: list[int] = []
    last: Point | None = None
    for index in sorted(range(len(points)), key=points.__getitem__):
        point = points[index]
        if point == last or not is_dominated(point):
            found.append(index)
            last = point
    return sorted(found)


def ranks(points: Sequence[Point]) -> list[int]:
    """The indices of all points, best first: front after front, and within each the least crowded first (NSGA-II).

    Lower is better everywhere; infinite coordinates are allowed, and come last.
    """
    left = [i for i, point in enumerate(points) if all(map(math.isfinite, point))]
    found: list[int] = []
    while left:
        layer = [left[i] for i in front([points[i] for i in left])]
        crowding = _crowding([points[i] for i in layer])
        found += [layer[i] for i in sorted(range(len(layer)), key=lambda i: -crowding[i])]
        taken = dict.fromkeys(layer)
        left = [i for i in left if i not in taken]
    return found + [i for i, point in enumerate(points) if not all(map(math.isfinite, point))]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The volume between the front of these points and a reference that is worse than all of it; lower is better.

    Points that are not below the reference in every coordinate count nothing. Slices along the last coordinate (Fonseca
    et al. 2006): O(n log n) for two goals, and a factor of n more for each further one.
    """
    inside = sorted({p for p in points if all(x < r for x, r in zip(p, reference, strict=True))}, key=lambda p: p[-1])
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - inside[0][0]
    if len(reference) == 2:
        return _area(inside, reference)
    volume = 0.0
    for i, point in enumerate(inside):
        depth = (inside[i + 1][-1] if i + 1 < len(inside) else reference[-1]) - point[-1]
        if depth > 0:
            volume += depth * hypervolume([p[:-1] for p in inside[: i + 1]], reference[:-1])
    return volume


def _area(inside: Sequence[Point], reference: Point) -> float:
    """Two goals, in order of the second: each point adds the strip that its first coordinate wins."""
    area, best = 0.0, reference[0]
    for x, y in inside:
        if x < best:
            area += (best - x) * (reference[1] - y)
            best = x
    return area


def _crowding(points: Sequence[Point]) -> list[float]:
    """How far each point's neighbours on its front are from each other; infinite at the ends."""
    distance = [0.0] * len(points)
    for axis in range(len(points[0])):
        order = sorted(range(len(points)), key=lambda i: points[i][axis])
        span = points[order[-1]][axis] - points[order[0]][axis]
        distance[order[0]] = distance[order[-1]] = math.inf
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            distance[i] += (points[after][axis] - points[before][axis]) / span if span else 0.0
    return distance


def _watch_two() -> Callable[[Point], bool]:
    """Tells of each point, in sorted order and no two equal, whether one before it dominates it."""
    lowest: float | None = None

    def is_dominated(point: Point) -> bool:
        nonlocal lowest
        if lowest is not None and lowest <= point[-1]:
            return True
        lowest = point[-1]
        return False

    return is_dominated


def _watch_many(num_goals: int) -> Callable[[Point], bool]:
    """The same for more coordinates than two."""
    import numpy as np

    kept, count = np.empty((64, num_goals - 1)), 0

    def is_dominated(point: Point) -> bool:
        nonlocal kept, count
        rest = np.asarray(point[1:])
        if (kept[:count] <= rest).all(axis=1).any():
            return True
        if count == len(kept):
            kept = np.concatenate([kept, np.empty_like(kept)])
        kept[count] = rest
        count += 1
        return False

    return is_dominated
