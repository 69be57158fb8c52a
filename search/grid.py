"""Grid search: every combination once, in a fixed order, the last parameter varying fastest.

The grid is never laid out in memory: point ``i`` is the number ``i`` written in a mixed radix, one digit per
parameter. A choice and the parameters inside it are one digit together, with as many values as they have combinations,
so that conditional parameters multiply only where they exist.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from velodrome.search.domains import Choice, Domain, Float, Int
from velodrome.search.history import History
from velodrome.search.options import check_whole
from velodrome.search.sampler import Exhausted
from velodrome.search.sequence import PointSequence, needs_space
from velodrome.search.space import Space
from velodrome.types import Params, ParamValue, Suggestion

if TYPE_CHECKING:
    import numpy as np

MAX_TRIES = 1_000_000
"""How many points in a row may break a constraint before the grid gives up."""


class GridSampler:
    """Walks the grid of a space and then raises ``Exhausted``.

    Args:
        points: How many values a continuous parameter gets: a ``Float`` without a step, and a parameter on a
            logarithmic scale with more values than that. They are spread evenly over its scale, both ends included.
            Other parameters get all their values.
    """

    def __init__(self, points: int = 5) -> None:
        check_whole("grid", "points", points, at_least=1)
        self._points = points
        self._space: Space | None = None
        self._sequence: PointSequence

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """The next point of the grid. ``rng`` is not used.

        Raises:
            Exhausted: If the grid is at its end.
            UsageError: If there is no space.
        """
        if history.space is not self._space:
            if history.is_define_by_run:
                raise needs_space("grid")
            self._space = history.space
            self._sequence = PointSequence(history.space, Grid(history.space, self._points).point, max_tries=MAX_TRIES)
        return self._sequence.suggest(number, history)

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """Not possible: raises UsageError."""
        raise needs_space("grid")


class Grid:
    """The points of a space's grid, constraints aside.

    >>> grid = Grid(Space(lr=Float(0.01, 1.0, log=True), act=Choice("relu", "gelu")), points=3)
    >>> len(grid), grid.point(3)
    (6, {'lr': 0.1, 'act': 'gelu'})
    """

    def __init__(self, space: Space, points: int = 5) -> None:
        self._names = list(space.domains)
        self._axes = [_axis(name, d, points) for name, d in space.domains.items() if name not in space.conditions]
        self._len = math.prod(axis.size for axis in self._axes)

    def __len__(self) -> int:
        return self._len

    def point(self, index: int) -> Params:
        """Point ``index``, from 0.

        Raises:
            Exhausted: If there are not so many.
        """
        if index >= self._len:
            raise Exhausted(f"the grid's {self._len:,} points were walked to their end")
        found: Params = {}
        _write(self._axes, index, found)
        return {name: found[name] for name in self._names if name in found}


class _Axis(NamedTuple):
    """One parameter's part of the grid."""

    size: int
    write: Callable[[int, Params], None]
    """Writes digit ``i`` of this axis into a configuration."""


def _write(axes: Sequence[_Axis], index: int, params: Params) -> None:
    for axis in reversed(axes):
        index, digit = divmod(index, axis.size)
        axis.write(digit, params)


def _axis(name: str, domain: Domain, points: int) -> _Axis:
    if isinstance(domain, Choice):
        return _choice_axis(name, domain, points)
    values = _spread(domain, points)
    if values is not None:
        return _Axis(len(values), lambda i, params: params.__setitem__(name, values[i]))
    assert domain.cardinality is not None
    return _Axis(domain.cardinality, lambda i, params: params.__setitem__(name, domain.value_at(i)))


def _choice_axis(name: str, choice: Choice, points: int) -> _Axis:
    inside = [[_axis(f"{name}.{child}", domain, points) for child, domain in branch] for branch in choice.branches]
    starts = [0, *accumulate(math.prod(axis.size for axis in axes) for axes in inside)]

    def write(i: int, params: Params) -> None:
        option = bisect_right(starts, i) - 1
        params[name] = choice.options[option]
        _write(inside[option], i - starts[option], params)

    return _Axis(starts[-1], write)


def _spread(domain: Float | Int, points: int) -> list[float] | None:
    """The values of a continuous parameter in the grid; None for one that gets all its values."""
    if domain.step is not None and (not domain.log or (domain.cardinality or 0) <= points):
        return None
    first, last = domain.to_unit(domain.low), domain.to_unit(domain.high)
    places = [0.5] if points == 1 else [k / (points - 1) for k in range(points)]
    values = [_readable(domain, domain.from_unit(first + t * (last - first))) for t in places]
    return list(dict.fromkeys(values))


def _readable(domain: Float | Int, value: float) -> float:
    """0.1 for 0.10000000000000002: where a value between the bounds is anyone's choice, one with few digits."""
    if domain.step is not None:
        return value
    return min(max(float(f"{value:.12g}"), domain.low), domain.high)
