"""The bridge to Optuna's samplers: what they find, and what they learn from trials without a value."""

import statistics

import numpy as np
import optuna
import pytest

from tests.search.optuna_loop import MOSTLY_QUICK, SMALL, TOY, Loop, toy
from velodrome.search.domains import Choice, Float, Int
from velodrome.search.optuna_bridge import OptunaSampler
from velodrome.search.optuna_samplers import KINDS
from velodrome.search.random_sampler import RandomSampler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import FailureClass, Goal, Suggestion, TrialState


@MOSTLY_QUICK
def test_it_beats_random_search_within_forty_trials(kind):
    seeds, trials = range(2 if kind == "gp" else 15), 12 if kind == "gp" else 40
    best = [Loop(TOY, seed=s).run(OptunaSampler(kind, s, **SMALL[kind]), toy, trials) for s in seeds]
    random = [Loop(TOY, seed=s).run(RandomSampler(), toy, trials) for s in range(41)]
    assert statistics.median(best) < statistics.median(random)


def test_define_by_run_tpe_is_as_good_as_optunas_own_loop():
    def ours(seed: int) -> float:
        loop, sampler = Loop(Space(), seed=seed), OptunaSampler("tpe")
        for _ in range(40):
            number = loop.start(sampler)
            x = loop.ask_param(sampler, number, "x", Float(-5, 5))
            y = loop.ask_param(sampler, number, "y", Float(-5, 5))
            opt = loop.ask_param(sampler, number, "opt", Choice("sgd", "adam"))
            beta = loop.ask_param(sampler, number, "beta", Float(0, 1)) if opt == "adam" else None
            loop.complete(number, toy({"x": x, "y": y, "opt": opt, "opt.beta": beta, "width": 64}))
        return float(np.min(loop.history.values))

    def optunas(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
        opt = trial.suggest_categorical("opt", ["sgd", "adam"])
        beta = trial.suggest_float("beta", 0, 1) if opt == "adam" else None
        return toy({"x": x, "y": y, "opt": opt, "opt.beta": beta, "width": 64})

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    theirs = []
    for seed in range(15):
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(optunas, 40)
        theirs.append(study.best_value)
    mine = [ours(seed) for seed in range(15)]
    assert statistics.median(mine) < statistics.quantiles(theirs, n=4)[2]


@pytest.mark.parametrize(
    ("kind", "failure"),
    [("tpe", FailureClass.DIVERGED), *((kind, FailureClass.OOM) for kind in KINDS)],
)
def test_it_learns_to_keep_away_from_where_trials_run_out_of_memory_or_diverge(kind, failure):
    space = Space(size=Float(0, 1), other=Float(0, 1))
    loop, sampler = Loop(space), OptunaSampler(kind, 0, **SMALL[kind])
    for _ in range(19 if kind == "gp" else 60):
        number = loop.start(sampler)
        params = loop.history.running[number].params
        if params["size"] > 0.4:
            loop.note("finish", number, TrialState.FAILED, None, None, failure)
        else:
            loop.complete(number, (params["other"] - 0.5) ** 2 - params["size"])
    last = [trial.failure is None for trial in loop.history.finished(len(loop.history) - 15)]
    assert sum(last) >= 9  # of 15; random search: 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_history_without_a_single_value_is_no_obstacle(kind):
    loop, sampler = Loop(TOY, Goal.parse("maximize accuracy")), OptunaSampler(kind, 0, **SMALL[kind])
    for _ in range(6 if kind == "gp" else 14):
        loop.note("finish", loop.start(sampler), TrialState.FAILED, None, None, FailureClass.OOM)
    assert TOY.contains(loop.suggestion(sampler).params)


def test_a_pruned_trial_counts_by_its_last_value_and_step():
    space = Space(x=Float(0, 1))
    loop, sampler = Loop(space), OptunaSampler("tpe", n_startup_trials=5)
    for number in range(30):
        loop.note("start", number, Suggestion({"x": (number + 0.5) / 30}))
        loop.note("finish", number, TrialState.PRUNED, (abs(number - 8.0),), 3)
    loop.number = 30
    xs = [sampler.suggest(30, loop.history, generator(i)).params["x"] for i in range(30)]
    assert statistics.median(abs(x - 8.5 / 30) for x in xs) < 0.08


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_several_objectives(kind):
    space = Space(x=Float(0, 2), y=Float(0, 1), act=Choice("relu", deep={"n": Int(1, 4)}))
    loop, sampler = Loop(space, Goal.parse("minimize loss, maximize speed")), OptunaSampler(kind, 0, **SMALL[kind])
    for _ in range(50):
        number = loop.start(sampler)
        params = loop.history.running[number].params
        if params["x"] > 1.5:
            loop.note("finish", number, TrialState.FAILED, None, None, FailureClass.OOM)
        elif number % 7 == 3:
            loop.note("finish", number, TrialState.PRUNED, (1.0, 1.0), 2)
        else:
            loop.complete(number, params["x"] ** 2 + params["y"], -((params["x"] - 1) ** 2) - params["y"])
    ys = [trial.params["y"] for trial in loop.history.finished(30)]
    assert statistics.median(ys) < 0.4  # y is bad for both
    assert loop.suggestion(sampler) == loop.rebuilt().suggestion(OptunaSampler(kind, 0, **SMALL[kind]))
