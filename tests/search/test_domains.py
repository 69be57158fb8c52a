from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search.spaces import domains, floats, ints
from velodrome.errors import SpaceError
from velodrome.search.domains import Choice, Domain, Float, Int, domain_from_json, hull
from velodrome.search.space import Space


@given(domains(), st.floats(0, 1))
def test_every_point_of_the_unit_interval_is_a_value_and_comes_back(domain: Domain, u: float) -> None:
    value = domain.from_unit(u)
    domain.check("x", value)
    again = domain.from_unit(domain.to_unit(value))
    if isinstance(domain, Float) and domain.step is None:
        assert again == pytest.approx(value, rel=1e-9, abs=1e-9 * (domain.high - domain.low))
    elif not isinstance(domain, Int) or abs(domain.low) < 2**50:
        assert again == value
        assert type(again) is type(value)


@given(domains(), st.floats(0, 1))
def test_codes_are_exact(domain: Domain, u: float) -> None:
    value = domain.from_unit(u)
    code = domain.code(value)
    assert isinstance(code, float)
    assert domain.decode(code) == value
    assert type(domain.decode(code)) is type(value)


@given(domains())
def test_json_round_trip(domain: Domain) -> None:
    again = domain_from_json(json.loads(json.dumps(domain.to_json())))
    assert again == domain
    assert hash(again) == hash(domain)
    assert repr(again) == repr(domain)


@given(floats() | ints())
def test_the_ends_are_values(domain: Float | Int) -> None:
    assert domain.from_unit(0.0) == domain.low
    last = domain.from_unit(1.0)
    assert last <= domain.high
    if domain.step is not None and not (isinstance(domain, Int) and abs(domain.low) >= 2**50):
        assert last + domain.step > domain.high - 1e-9 * domain.step


def test_steps_do_not_drift() -> None:
    tenths = Float(0, 1, step=0.1)
    assert [tenths.value_at(i) for i in range(11)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert tenths.cardinality == 11
    assert Float(1e-5, 3e-5, step=1e-5).value_at(2) == 3e-5
    assert Float(0, 1e300, step=1e299).cardinality == 11
    assert tenths.contains(0.1 + 0.2)
    assert not tenths.contains(0.35)
    assert not tenths.contains(1.1)


def test_steps_and_whole_numbers_have_equal_shares() -> None:
    for domain in (Int(1, 5), Float(1, 5, step=1.0), Int(0, 8, step=2)):
        counts = Counter(domain.from_unit((i + 0.5) / 1000) for i in range(1000))
        assert set(counts.values()) == {200}


def test_log_shares_are_equal_per_factor() -> None:
    values = [Int(1, 1024, log=True).from_unit((i + 0.5) / 10_000) for i in range(10_000)]
    low, high = sum(v < 32 for v in values), sum(v >= 32 for v in values)
    assert low == pytest.approx(high, rel=0.25)
    assert Float(1e-4, 1.0, log=True).from_unit(0.5) == pytest.approx(1e-2)
    assert Float(0.01, 1.0, log=True, step=0.01).from_unit(0.0) == 0.01


def test_out_of_range_points_are_clamped() -> None:
    for domain in (Float(0, 1), Int(0, 9), Choice(0, 9), Float(1, 2, log=True), Float(0, 1, step=0.25)):
        assert domain.from_unit(-0.5) == domain.from_unit(0.0)
        assert domain.from_unit(1.5) == domain.from_unit(1.0)


def test_true_and_one_stay_apart() -> None:
    both = Choice(True, 1, False, 0)
    assert [both.index(v) for v in (True, 1, False, 0)] == [0, 1, 2, 3]
    assert Choice(True, False) != Choice(1, 0)
    assert not Choice(1, 0).contains(True)
    assert Choice(1, 2).contains(2.0)
    assert Choice(None).contains(None)
    assert not Choice("a").contains(["a"])
    assert not Int(0, 1).contains(True)
    assert not Float(0, 1).contains(True)
    assert not Int(0, 5).contains(2.0)
    assert Float(0, 5).contains(2)
    assert not Float(0, 5).contains(math.nan)


def test_cardinality() -> None:
    assert Float(0, 1).cardinality is None
    assert Float(1, 1).cardinality == 1
    assert Int(3, 9, step=3).cardinality == 3
    assert Choice("a", "b", c={"x": Int(1, 4), "y": Choice(1, 2)}).cardinality == 2 + 8
    assert Choice("a", b={"x": Float(0, 1)}).cardinality is None


def test_numpy_bounds_become_plain_numbers() -> None:
    np = pytest.importorskip("numpy")
    domain = Int(np.int64(2), np.int32(5))
    assert type(domain.low) is int
    assert type(Float(np.float32(0.5), np.int64(2)).low) is float
    assert domain.contains(np.int64(3))


WRONG: list[tuple[Domain, str]] = [
    (Float(1, 0), "low <= high"),
    (Float(math.nan, 1), "finite"),
    (Float(0, math.inf), "finite"),
    (Float("0", 1), "numbers"),  # type: ignore[arg-type]  # a mistake that a user makes
    (Float(True, 2), "numbers"),
    (Float(-1.7e308, 1.7e308), "1.79e308"),
    (Float(0, 1, log=True), "low > 0"),
    (Float(0, 1, log="yes"), "log=True"),  # type: ignore[arg-type]  # a mistake that a user makes
    (Float(0, 1, step=0), "step > 0"),
    (Float(0, 1, step=-0.1), "step > 0"),
    (Float(0, 1, step=math.nan), "step > 0"),
    (Float(0, 1e9, step=1e-9), "steps"),
    (Int(2, 1), "low <= high"),
    (Int(0.5, 2), "whole"),  # type: ignore[arg-type]  # a mistake that a user makes
    (Int(0, 2**53 + 1), "2**53"),
    (Int(0, 5, log=True), "low >= 1"),
    (Int(0, 5, step=0), "step >= 1"),
    (Int(0, 5, step=1.5), "step >= 1"),  # type: ignore[arg-type]  # a mistake that a user makes
    (Choice(), "one option"),
    (Choice("a", "a"), "once"),
    (Choice(1, 1.0), "once"),
    (Choice("a", a={}), "once"),
    (Choice(["a", "b"]), "one by one"),  # type: ignore[arg-type]  # a mistake that a user makes
    (Choice(math.nan), "finite"),
    (Choice(object()), "str or None"),  # type: ignore[arg-type]  # a mistake that a user makes
    (Choice(a=1), "Choice(adam="),  # type: ignore[arg-type]  # a mistake that a user makes
    (Choice(a={"x": 1}), "Float, Int, Choice or Net"),  # type: ignore[dict-item]  # a mistake that a user makes
    (Choice(a={"": Int(0, 1)}), "not empty"),
]


@pytest.mark.parametrize(("domain", "allowed"), WRONG,
                         ids=lambda x: "" if isinstance(x, str) else repr(x).partition(" at 0x")[0])
def test_a_mistake_names_the_parameter_what_was_given_and_what_is_allowed(domain: Domain, allowed: str) -> None:
    with pytest.raises(SpaceError) as caught:
        Space({"my lr": domain})
    assert "'my lr'" in caught.value.what
    assert caught.value.given == repr(domain)
    assert allowed in caught.value.allowed


def test_mistakes_inside_a_branch_have_the_whole_name() -> None:
    with pytest.raises(SpaceError, match=r"'opt\.adam\.beta'"):
        Space(opt=Choice(x={"adam": Choice(y={"beta": Float(1, 0)})}))
    with pytest.raises(SpaceError, match=r"'opt\.lr' has two domains"):
        Space(opt=Choice(a={"lr": Float(0, 1)}, b={"lr": Float(0, 2)}))


@pytest.mark.parametrize("data", [
    {}, {"type": "real"}, {"type": "int"}, {"type": "int", "low": 1}, {"type": "choice"}, [], None,
    {"type": "choice", "options": 5}, {"type": "choice", "options": ["a"], "branches": [{}, {}]},
    {"type": "choice", "options": ["a"], "branches": [3]},
])
def test_json_that_is_no_domain(data: Any) -> None:
    with pytest.raises(SpaceError, match="'lr' is not described as a domain"):
        domain_from_json(data, "lr")


def test_json_of_a_wrong_domain() -> None:
    with pytest.raises(SpaceError, match="'lr': low is greater than high"):
        domain_from_json({"type": "float", "low": 2, "high": 1}, "lr")


@pytest.mark.parametrize(("old", "new", "both"), [
    (Float(0, 1), Float(0.5, 2), Float(0, 2)),
    (Float(0, 1, step=0.5), Float(0.5, 3, step=0.5), Float(0, 3, step=0.5)),
    (Float(0, 1, step=0.5), Float(0.25, 3, step=0.5), Float(0, 3)),
    (Float(0, 1, step=0.5), Float(0.25, 3), Float(0, 3)),
    (Float(0, 1, step=0.5), Float(2.25, 3.25, step=0.5), Float(0, 3.25)),
    (Int(1, 4), Int(1, 9), Int(1, 9)),
    (Int(0, 8, step=4), Int(2, 10, step=4), Int(0, 10, step=2)),
    (Choice("a", 1), Choice("a", 1), Choice("a", 1)),
])
def test_hull(old: Domain, new: Domain, both: Domain) -> None:
    assert hull("x", old, new) == both
    assert hull("x", new, old) == both


@pytest.mark.parametrize(("old", "new"), [
    (Float(0, 1), Int(0, 1)), (Float(0.1, 1), Float(0.1, 1, log=True)), (Int(1, 2), Int(1, 2, log=True)),
    (Choice("a", "b"), Choice("b", "a")), (Choice("a"), Choice("a", "b")), (Choice(1, 0), Choice(True, False)),
    (Choice("a"), Int(0, 1)),
])
def test_hull_of_contradictions(old: Domain, new: Domain) -> None:
    with pytest.raises(SpaceError, match="'x' was asked for with another domain"):
        hull("x", old, new)


@given(floats(), floats())
def test_hull_holds_both(old: Float, new: Float) -> None:
    if old.log == new.log:
        both = hull("x", old, new)
        for domain in (old, new):
            for u in (0.0, 0.3, 1.0):
                both.check("x", domain.from_unit(u))
