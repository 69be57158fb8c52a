"""The Pareto front, against every point compared with every other."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velodrome.pareto import Point, front, hypervolume, ranks

COORDINATE = st.integers(-3, 3).map(float)  # few values: many ties


def points(num_goals: int) -> st.SearchStrategy[list[Point]]:
    return st.lists(st.tuples(*[COORDINATE] * num_goals), max_size=40)


@given(st.integers(1, 4).flatmap(points))
def test_it_is_what_no_other_point_dominates(found: list[Point]) -> None:
    def dominates(a: Point, b: Point) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    assert front(found) == [i for i, p in enumerate(found) if not any(dominates(other, p) for other in found)]


def test_no_points_have_no_front() -> None:
    assert front([]) == []


def test_many_points_that_are_all_on_the_front() -> None:
    assert front([(float(i), float(-i), 0.0) for i in range(200)]) == list(range(200))


@given(st.integers(1, 3).flatmap(points))
def test_ranks_are_front_after_front(found: list[Point]) -> None:
    order, left = ranks(found), list(range(len(found)))
    assert sorted(order) == left
    while left:
        layer = [left[i] for i in front([found[i] for i in left])]
        assert sorted(order[: len(layer)]) == layer
        order, left = order[len(layer):], [i for i in left if i not in layer]


def test_ranks_put_the_ends_of_a_front_before_its_crowded_middle() -> None:
    found = [(0.0, 4.0), (1.0, 3.0), (1.1, 2.9), (4.0, 0.0), (5.0, 5.0), (float("inf"), 0.0)]
    assert ranks(found) == [0, 3, 2, 1, 4, 5]


@given(st.integers(1, 4).flatmap(points))
def test_the_hypervolume_is_the_number_of_cells_below(found: list[Point]) -> None:
    """Counted one unit cell at a time: those with a point at or below their lower corner."""
    num_goals = len(found[0]) if found else 2
    corners = itertools.product(range(-3, 2), repeat=num_goals)
    counted = sum(any(all(x <= c for x, c in zip(p, corner, strict=True)) for p in found) for corner in corners)
    assert hypervolume(found, (2.0,) * num_goals) == pytest.approx(counted)


def test_no_points_win_nothing() -> None:
    assert hypervolume([], (1.0, 1.0)) == 0.0
    assert hypervolume([(2.0, 0.0)], (1.0, 1.0)) == 0.0
