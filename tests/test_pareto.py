"""The Pareto front, against every point compared with every other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from velodrome.pareto import Point, front

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
