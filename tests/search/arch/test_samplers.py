from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import spearmanr

import velodrome as velo
from tests.contracts.sampler_contract import SPACES, SamplerContract
from tests.search.arch.nets import CELL
from velodrome.errors import UsageError
from velodrome.pareto import hypervolume
from velodrome.search.arch.encoding import encode, paths
from velodrome.search.arch.evolution import EvolutionSampler
from velodrome.search.arch.local_search import LocalSearchSampler
from velodrome.search.arch.predictor import Predictor
from velodrome.search.arch.predictor_sampler import PredictorSampler
from velodrome.search.history import History
from velodrome.search.registry import make_sampler
from velodrome.search.sampler import Sampler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import Goal, Params, TrialState

MIXED = Space(lr=velo.Float(1e-4, 0.1, log=True), net=velo.Net(
    (4, 6, 6), velo.Repeat(velo.Block("conv", width=velo.Choice(4, 8)), times=velo.Int(1, 3)),
    velo.Cell("zero", "skip", "conv3x3", nodes=2), velo.Block("pool", stride=velo.Choice(2, 7)),
), constraints="params < 2000")
ALL: Mapping[str, Space] = {**SPACES, "net": MIXED}
NAMES = ["evolution", "local", "predictor:candidates=25"]


class ArchitectureContract(SamplerContract):
    """The contract, over spaces with nets too."""

    define_by_run = False

    @pytest.fixture(params=list(ALL))
    def space(self, request: pytest.FixtureRequest) -> Space:
        return ALL[request.param]


class TestEvolution(ArchitectureContract):
    def make(self) -> Sampler:
        return EvolutionSampler(population=4, sample=3, crossover=0.5)


class TestLocalSearch(ArchitectureContract):
    def make(self) -> Sampler:
        return LocalSearchSampler(start=3)


class TestPredictor(ArchitectureContract):
    def make(self) -> Sampler:
        return PredictorSampler(start=4, candidates=8)


def value_of(params: Params) -> float:
    """Higher is better: convolutions early, and a learning rate near 0.01."""
    ops = [str(v) for v in params.values()]
    lr = float(str(params.get("lr", 0.01)))
    return sum({"conv3x3": 1.0, "skip": 0.6, "zero": 0.0}.get(op, 0.2) for op in ops) - abs(math.log10(lr) + 2)


def run(
    sampler: Sampler, space: Space, trials: int, seed: int, goal: str = "maximize value"
) -> list[tuple[float, ...]]:
    history, found = History(space, Goal.parse(goal)), []
    for number in range(trials):
        suggestion = sampler.suggest(number, history, generator(seed, "suggest", number))
        history.start(number, suggestion)
        values = (value_of(suggestion.params),)
        if not history.goal.is_single:
            values = (*values, float(space.graph(suggestion.params).total().params))
        history.finish(number, TrialState.COMPLETED, values)
        found.append(values)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_it_beats_random_search_over_a_mixed_space(name: str) -> None:
    space = Space(lr=velo.Float(1e-4, 0.1, log=True), net=CELL)
    better = 0
    for seed in range(2):
        ours = max(run(make_sampler(name, seed=seed), space, 30, seed))
        better += ours >= max(run(make_sampler("random", seed=seed), space, 30, seed))
    assert better == 2


@pytest.mark.parametrize("name", NAMES)
def test_no_structure_is_tried_twice_while_there_are_others(name: str) -> None:
    space = Space(net=CELL)
    sampler, history, seen = make_sampler(name, seed=0), History(space, Goal.parse("maximize value")), []
    for number in range(24):
        suggestion = sampler.suggest(number, history, generator(0, "suggest", number))
        seen.append(space.structure(suggestion.params))
        history.start(number, suggestion)
        history.finish(number, TrialState.COMPLETED, (value_of(suggestion.params),))
    assert len(set(seen)) == 24


@pytest.mark.parametrize("name", NAMES)
def test_several_goals(name: str) -> None:
    """The volume under the front is larger than that of random search, summed over seeds."""
    def volume(sampler: str, seed: int) -> float:
        points = [(-v, p) for v, p in run(
            make_sampler(sampler, seed=seed), Space(net=CELL), 30, seed, "maximize value, minimize params")]
        return hypervolume(points, (0.0, 1000.0))

    assert sum(volume(name, seed) for seed in range(2)) > sum(volume("random", seed) for seed in range(2))


@pytest.mark.parametrize(("text", "said"), [
    ("evolution:population=1", "'population' of 'evolution'"), ("evolution:sample=0", "'sample'"),
    ("evolution:crossover=2", "'crossover'"), ("local:start=0", "'start' of 'local'"),
    ("predictor:encoding=path", r"'encoding'[^§]*Did you mean 'paths'"), ("predictor:candidates=0", "'candidates'"),
    ("predictor:warm=synflo", r"'warm'[^§]*Did you mean 'synflow'"),
    ("evolution:populaton=3", "Did you mean 'population'"),
])
def test_options_that_make_no_sense(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_sampler(text, seed=0)


@pytest.mark.parametrize("encoding", ["structure", "paths", "adjacency"])
def test_the_predictor_is_right_about_a_simple_rule(encoding: str) -> None:
    """After 60 cells it ranks others by their number of convolutions that count."""
    space, rng = Space(net=CELL), np.random.default_rng(0)

    def size(params: Params) -> float:
        return float(space.graph(params).total().params)

    seen, others = ([space.sample(rng) for _ in range(60)] for _ in range(2))
    model = Predictor([encode(space, params, encoding) for params in seen], [size(params) for params in seen])
    belief = model.predict([encode(space, params, encoding) for params in others])
    assert spearmanr(belief.mean, [size(params) for params in others])[0] > 0.7
    assert (belief.deviation > 0).all()


def test_paths_are_the_ways_through_a_net() -> None:
    space = Space(net=velo.Net((4, 4, 4), velo.Cell("zero", "skip", "conv1x1", "conv3x3", nodes=2)))
    graph = space.graph({"net.0.0-1": "conv1x1", "net.0.0-2": "skip", "net.0.1-2": "conv3x3"}).simplified()
    assert dict(paths(graph)) == {(): 1, ("conv1x1", "conv3x3"): 1}


def test_evolution_forgets_the_old() -> None:
    """With a population of two, the best of long ago has no more children."""
    space = Space(x=velo.Choice(*range(50)), y=velo.Choice(*range(50)))
    sampler, history = EvolutionSampler(population=2, sample=2), History(space, Goal.parse("maximize value"))
    for number, (x, y) in enumerate([(0, 0), (10, 10), (20, 20)]):
        history.start(number, velo.types.Suggestion({"x": x, "y": y}))  # type: ignore[attr-defined]  # it is loaded
        history.finish(number, TrialState.COMPLETED, (-float(x),))
    for number in range(3, 30):
        child = sampler.suggest(3, history, np.random.default_rng(number)).params
        assert child["x"] == 10 or child["y"] == 10
