from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velodrome.errors import SpaceError, UsageError
from velodrome.search.domains import Choice, Float, Int
from velodrome.search.explore import explore, perturbed
from velodrome.search.pbt import PBT, explored
from velodrome.search.space import Space
from velodrome.types import Direction

SPACE = Space(
    lr=Float(1e-4, 1e-1, log=True), width=Int(8, 64, step=8), momentum=Float(0.0, 0.9, step=0.1),
    optimizer=Choice("plain", adam={"beta": Float(0.8, 0.99), "warm": Int(0, 5)}, sgd={"beta": Float(0.8, 0.99)}),
    constraints=["lr * width < 3"],
)


@given(st.integers(0, 2**32), st.lists(st.sampled_from(sorted(SPACE.domains)), unique=True),
       st.sampled_from([0.0, 0.3, 1.0]))
def test_what_is_explored_is_a_configuration_of_the_space(seed: int, names: list[str], resample: float) -> None:
    rng = np.random.default_rng(seed)
    params = SPACE.sample(rng)
    for _ in range(5):
        changed = explore(params, SPACE, rng, names=names, resample=resample)
        SPACE.check(changed)
        for name in params:
            if name in changed and name not in names:
                assert changed[name] == params[name]
        params = changed


def test_a_number_is_multiplied_or_drawn_anew() -> None:
    space, rng = Space(lr=Float(1e-4, 1e-1, log=True), n=Int(1, 100)), np.random.default_rng(1)
    seen = {explore({"lr": 0.01, "n": 50}, space, rng, names=("lr", "n"), resample=0.0)["lr"] for _ in range(50)}
    assert sorted(seen) == pytest.approx([0.008, 0.012])
    drawn = [explore({"lr": 0.01, "n": 50}, space, rng, names=("lr",), resample=1.0) for _ in range(50)]
    assert len({p["lr"] for p in drawn}) == 50
    assert {p["n"] for p in drawn} == {50}


def test_a_choice_that_changes_brings_its_own_parameters() -> None:
    space, rng = Space(o=Choice(a={"x": Float(0, 1)}, b={"y": Float(5, 6)})), np.random.default_rng(0)
    found = [explore({"o": "a", "o.x": 0.5}, space, rng, names=("o",), resample=1.0) for _ in range(20)]
    assert {tuple(p) for p in found} == {("o", "o.x"), ("o", "o.y")}
    assert all(p["o.x"] == 0.5 for p in found if p["o"] == "a")
    assert all(5 <= p["o.y"] <= 6 for p in found if p["o"] == "b")  # type: ignore[operator]  # floats


@pytest.mark.parametrize(("domain", "value", "factor", "expected"), [
    (Float(0.0, 1.0), 0.5, 1.2, 0.6), (Float(0.0, 1.0), 0.9, 1.2, 1.0), (Float(0.5, 1.0), 0.5, 0.8, 0.5),
    (Float(0.0, 1.0, step=0.1), 0.1, 1.2, 0.2), (Float(0.0, 1.0, step=0.1), 0.1, 0.8, 0.0), (Int(1, 9), 1, 1.2, 2),
    (Int(1, 9), 9, 1.2, 9), (Int(1, 9), 1, 0.8, 1), (Int(0, 40, step=8), 16, 1.2, 24), (Int(0, 9), 0, 1.2, 0),
    (Float(-2.0, 2.0), -1.0, 1.2, -1.2),
])
def test_perturbed(domain: Float | Int, value: float, factor: float, expected: float) -> None:
    assert perturbed(domain, value, factor) == pytest.approx(expected)


def test_what_pbt_may_change() -> None:
    assert explored(SPACE) == ("lr", "momentum", "optimizer.beta")
    assert explored(SPACE, "width+optimizer") == ("width", "optimizer")
    with pytest.raises(SpaceError, match="Did you mean 'width'"):
        explored(SPACE, "with")
    with pytest.raises(UsageError, match="no parameter to change"):
        PBT(Direction.MINIMIZE).check(Space(n=Int(1, 5)))
    with pytest.raises(UsageError, match="no parameter to change"):
        PBT(Direction.MINIMIZE).check(Space())


@pytest.mark.parametrize(("option", "value"), [
    ("population", 1), ("interval", 0), ("quantile", 0.6), ("resample", -1), ("quantile", "much"),
])
def test_options_that_make_no_sense(option: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"'{option}' of 'pbt'"):
        PBT(Direction.MINIMIZE, **{option: value})  # type: ignore[arg-type]  # a mistake that a user makes
