from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.sampler_contract import SamplerContract
from tests.search.spaces import CONDITIONAL, CONSTRAINED, DISCRETE, MIXED, small_spaces, spaces
from velodrome.errors import SpaceError, UsageError
from velodrome.search.domains import Choice, Float, Int
from velodrome.search.grid import Grid, GridSampler
from velodrome.search.history import History
from velodrome.search.random_sampler import RandomSampler
from velodrome.search.sampler import Exhausted, Sampler
from velodrome.search.sobol import SobolSampler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import Goal, Params, TrialState

LOSS = Goal.parse("minimize loss")


class TestRandom(SamplerContract):
    def make(self) -> Sampler:
        return RandomSampler()


class TestGrid(SamplerContract):
    define_by_run = False

    def make(self) -> Sampler:
        return GridSampler(points=3)


class TestSobol(SamplerContract):
    define_by_run = False

    def make(self) -> Sampler:
        return SobolSampler(seed=self.seed)


def walk(sampler: Sampler, space: Space, most: int = 10_000, history: History | None = None) -> list[Params]:
    """What the sampler suggests to its end, at most ``most`` trials."""
    history = History(space, LOSS) if history is None else history
    found = []
    for number in range(len(history), most):
        try:
            suggestion = sampler.suggest(number, history, generator(0, "suggest", number))
        except Exhausted:
            break
        history.start(number, suggestion)
        history.finish(number, TrialState.COMPLETED, (0.0,))
        found.append(suggestion.params)
    return found


def test_random_is_uniform_over_the_cube() -> None:
    history = History(MIXED, LOSS)
    sampler = RandomSampler()
    params = [sampler.suggest(n, history, generator(0, "suggest", n)).params for n in range(2000)]
    units = np.array([MIXED.to_unit(p) for p in params])
    np.testing.assert_allclose(units.mean(axis=0), 0.5, atol=0.03)
    assert np.abs(np.corrcoef(units.T) - np.eye(len(MIXED))).max() < 0.08


def test_the_grid_is_the_product_of_its_parameters() -> None:
    space = Space(lr=Float(0.001, 0.1, log=True), width=Int(1, 3), act=Choice("x", None), drop=Float(0, 1, step=0.5))
    expected = list(itertools.product([0.001, 0.01, 0.1], [1, 2, 3], ["x", None], [0.0, 0.5, 1.0]))
    assert [tuple(p.values()) for p in walk(GridSampler(points=3), space)] == expected


def test_the_grid_of_conditional_parameters() -> None:
    points = walk(GridSampler(points=2), CONDITIONAL)
    adam = [{"lr": lr, "optimizer": "adam", "optimizer.beta1": b, "optimizer.decay": d}
            for lr in (1e-5, 0.1) for b in (0.8, 0.99) for d in (0.0, 1.0)]
    assert [p for p in points if p["optimizer"] == "adam"] == adam
    assert Counter(p["optimizer"] for p in points) == {"none": 2, "adam": 8, "sgd": 2 * 2 * (1 + 2)}
    assert all(list(p) == [n for n in CONDITIONAL.domains if n in p] for p in points)


@settings(max_examples=40)
@given(small_spaces())
def test_a_grid_is_the_whole_of_a_finite_space(space: Space) -> None:
    points = walk(GridSampler(points=1), space)
    assert len({space.key(p) for p in points}) == len(points) == space.cardinality
    assert all(space.contains(p) for p in points)


def test_values_of_a_grid() -> None:
    def values(domain: Float | Int, points: int) -> list[object]:
        return [p["x"] for p in walk(GridSampler(points=points), Space(x=domain))]

    assert values(Int(16, 256, log=True), 5) == [16, 32, 64, 128, 256]
    assert values(Int(1, 4, log=True), 5) == [1, 2, 3, 4]
    assert values(Int(0, 9), 5) == list(range(10))
    assert values(Float(0, 1), 1) == [0.5]
    assert values(Float(0, 1), 4) == [0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]
    assert values(Float(1e-5, 1e-1, log=True), 5) == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert values(Float(2, 2), 5) == [2.0]


def test_a_grid_keeps_to_the_constraints() -> None:
    points = walk(GridSampler(), CONSTRAINED)
    expected = [(w, d) for w in range(16, 257) for d in range(1, 33) if w * d <= 1024]
    assert [(p["width"], p["depth"]) for p in points] == expected


def test_a_grid_is_not_laid_out_in_memory() -> None:
    space = Space({f"x{i}": Int(0, 2**40) for i in range(3)})
    grid = Grid(space)
    last = (2**40 + 1) ** 3 - 1
    assert grid.point(last) == {"x0": 2**40, "x1": 2**40, "x2": 2**40}
    assert grid.point(last // 2)["x0"] == 2**39
    with pytest.raises(Exhausted, match="walked to their end"):
        grid.point(last + 1)


def test_a_grid_without_a_feasible_point_names_the_constraint() -> None:
    with pytest.raises(SpaceError, match="a > 9"):
        walk(GridSampler(), Space(a=Int(0, 5), constraints=["a > 9"]))


@pytest.mark.parametrize("points", [0, -1, 2.5, True, "3"])
def test_points_that_make_no_sense(points: object) -> None:
    with pytest.raises(UsageError, match="'points' of 'grid'"):
        GridSampler(points)  # type: ignore[arg-type]  # a mistake that a user makes


@pytest.mark.parametrize("make", [GridSampler, lambda: SobolSampler(seed=1)])
@pytest.mark.parametrize("space", [DISCRETE, CONSTRAINED], ids=["discrete", "constrained"])
def test_skipped_points_stay_skipped_after_a_resume(make: type[GridSampler], space: Space) -> None:
    sampler, history = make(), History(space, LOSS)
    plain = walk(make(), space, 12)
    for number in range(4):
        rng = generator(0, "suggest", number)
        suggestion = sampler.suggest(number, history, rng)
        if number == 2:
            suggestion = sampler.suggest(number, history, rng)
        history.start(number, suggestion)
        history.finish(number, TrialState.COMPLETED, (0.0,))
    tried = [t.params for t in history.finished()]
    assert tried == [plain[0], plain[1], plain[3], plain[4]]
    assert walk(make(), space, 6, history) == [plain[5], plain[6]]


def test_sobol_points_depend_on_seed_and_number_alone() -> None:
    in_order = walk(SobolSampler(seed=5), MIXED, 600)
    fresh = SobolSampler(seed=5)
    for number in (599, 0, 256, 255, 300):
        assert fresh.suggest(number, History(MIXED, LOSS), generator(9, "other")).params == in_order[number]
    assert walk(SobolSampler(seed=6), MIXED, 3) != in_order[:3]


def test_sobol_is_balanced() -> None:
    space = Space(x=Float(0, 1), y=Float(0, 1), c=Choice(*range(8)))
    params = walk(SobolSampler(seed=0), space, 64)
    assert sorted(math.floor(64 * float(str(p["x"]))) for p in params) == list(range(64))
    assert set(Counter(p["c"] for p in params).values()) == {8}


def test_sobol_keeps_to_the_constraints_in_the_order_of_the_sequence() -> None:
    free = Space(dict(CONSTRAINED.domains))
    unconstrained = walk(SobolSampler(seed=2), free, 400)
    kept = [p for p in unconstrained if CONSTRAINED.contains(p)]
    assert walk(SobolSampler(seed=2), CONSTRAINED, len(kept)) == kept
    with pytest.raises(SpaceError, match="10,000 tries"):
        walk(SobolSampler(seed=2), Space(x=Float(0, 1), constraints=["x > 2"]))


@settings(max_examples=30)
@given(spaces().filter(lambda s: len(s) > 0), st.integers(0, 100))
def test_sobol_over_any_space(space: Space, seed: int) -> None:
    for params in walk(SobolSampler(seed=seed), space, 5):
        space.check(params)
