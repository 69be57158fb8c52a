"""The Pareto front of many points: those that no other beats in every goal."""

from __future__ import annotations

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
