from __future__ import annotations

import math

import numpy as np
import pytest

from tests.contracts.sampler_contract import SamplerContract
from velodrome.errors import UsageError
from velodrome.pareto import hypervolume
from velodrome.search.domains import Float
from velodrome.search.history import History
from velodrome.search.registry import make_sampler
from velodrome.search.sampler import Sampler
from velodrome.search.scalarized import scalarized
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import Goal, Suggestion, TrialState

SPACE = Space(x=Float(0, 1), y=Float(0, 1))
GOAL = Goal.parse("minimize a, maximize b")


class TestScalar(SamplerContract):
    define_by_run = False

    def make(self) -> Sampler:
        return make_sampler("scalar:sampler=evolution,population=4", seed=self.seed)


def tried(*values: tuple[float, float]) -> History:
    history = History(SPACE, GOAL)
    for number, row in enumerate(values):
        history.start(number, Suggestion({"x": number / 10, "y": 0.5}))
        history.finish(number, TrialState.COMPLETED, row)
    return history


def test_the_sum_is_that_of_the_paper() -> None:
    found = scalarized(tried((1.0, 10.0), (3.0, 30.0), (2.0, 10.0), (math.nan, 1.0)), [0.25, 0.75]).values[:, 0]
    np.testing.assert_allclose(found[:3], [0.75 * 1.05, 0.25 * 1.05, 0.75 + 0.05 * 0.875])
    assert found[3] == math.inf


def test_a_sampler_for_one_goal_finds_a_front() -> None:
    def volume(name: str, seed: int) -> float:
        sampler, history = make_sampler(name, seed=seed), History(SPACE, Goal.parse("minimize a, minimize b"))
        points = []
        for number in range(40):
            params = sampler.suggest(number, history, generator(seed, "suggest", number)).params
            x, y = float(str(params["x"])), float(str(params["y"]))
            points.append((x + 4 * y, (1 - x) ** 2 + 4 * y))
            history.start(number, Suggestion(params))
            history.finish(number, TrialState.COMPLETED, points[-1])
        return hypervolume(points, (2.0, 2.0))

    ours = sum(volume("scalar:sampler=tpe,n_startup_trials=8", seed) for seed in range(3))
    assert ours > sum(volume("random", seed) for seed in range(3))


@pytest.mark.parametrize(("text", "said"), [
    ("scalar:sampler=gpp", "Did you mean 'gp'"), ("scalar:sampler=scalar", "no such sampler"),
    ("scalar:sampler=evolution,populaton=3", "Did you mean 'population'"),
])
def test_a_wrong_inner_sampler(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_sampler(text, seed=0)
