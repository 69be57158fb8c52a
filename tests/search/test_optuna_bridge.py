"""The bridge to Optuna's samplers: the contract, the options, and the table that Optuna reads as a study."""


import numpy as np
import optuna
import pytest

from tests.contracts.sampler_contract import SamplerContract
from tests.search.optuna_loop import SMALL, TOY, Loop, finish_somehow, toy
from velodrome.errors import UsageError
from velodrome.search.optuna_bridge import OptunaSampler
from velodrome.search.optuna_samplers import KINDS
from velodrome.search.optuna_table import TrialTable, row
from velodrome.search.sampler import Sampler
from velodrome.types import Direction, Goal

# ---- the contract of every sampler


class TestTpe(SamplerContract):
    def make(self) -> Sampler:
        return OptunaSampler("tpe", n_startup_trials=5)


@pytest.mark.slow
class TestGp(SamplerContract):
    def make(self) -> Sampler:
        return OptunaSampler("gp", n_startup_trials=11)


class TestCmaEs(SamplerContract):
    def make(self) -> Sampler:
        return OptunaSampler("cmaes", popsize=4)


class TestNsga2(SamplerContract):
    def make(self) -> Sampler:
        return OptunaSampler("nsga2", population_size=4)


# ---- what it leaves alone


def test_no_global_state_is_touched_and_nothing_is_printed(capfd):
    import torch

    optuna.logging.set_verbosity(optuna.logging.INFO)
    np.random.seed(3)  # noqa: NPY002 - the global state is what must not change
    state, torch_state = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    for kind in KINDS:
        Loop(TOY).run(OptunaSampler(kind, 0, **SMALL[kind]), toy, 6 if kind == "gp" else 13)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr() == ("", "")


# ---- errors


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("tpee", {}, ["tpee", "nsga2", "Did you mean 'tpe'"]),
        ("tpe", {"n_startup_trial": 3}, ["n_startup_trial=3", "n_ei_candidates", "Did you mean 'n_startup_trials'"]),
        ("tpe", {"n_startup_trials": -1}, ["n_startup_trials", "-1", "a whole number from 0"]),
        ("tpe", {"n_ei_candidates": 2.5}, ["2.5", "a whole number from 1"]),
        ("tpe", {"multivariate": 1}, ["multivariate", "true or false"]),
        ("cmaes", {"popsize": True}, ["popsize", "True"]),
        ("nsga2", {"mutation_prob": 1.5}, ["mutation_prob", "1.5", "from 0 to 1"]),
        ("cmaes", {"lr_adapt": True, "use_separable_cma": True}, ["lr_adapt", "use_separable_cma"]),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(kind, options, words):
    with pytest.raises(UsageError) as caught:
        OptunaSampler(kind, 0, **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("tpe", {"multivariate": False, "constant_liar": False, "n_ei_candidates": 8, "n_startup_trials": 3}),
        ("gp", {"n_startup_trials": 4, "deterministic_objective": True}),
        ("cmaes", {"lr_adapt": True, "n_startup_trials": 2, "consider_pruned_trials": True, "popsize": 4}),
        ("cmaes", {"use_separable_cma": True, "popsize": 4}),
        ("nsga2", {"population_size": 4, "mutation_prob": 0.5, "crossover_prob": 0.5, "swapping_prob": 0.1}),
    ],
)
def test_options_reach_the_sampler_quietly_and_resume_holds_with_them(kind, options):
    loop, sampler = Loop(TOY), OptunaSampler(kind, 0, **options)
    for _ in range(10 if kind == "gp" else 14):
        finish_somehow(loop, number := loop.start(sampler), toy(loop.history.running[number].params))
    suggestion = loop.suggestion(sampler)
    assert suggestion == loop.rebuilt().suggestion(OptunaSampler(kind, 0, **options))
    assert suggestion != loop.suggestion(OptunaSampler(kind))


@pytest.mark.parametrize("kind", ["gp", "cmaes"])
def test_samplers_for_one_metric_say_which_take_several(kind):
    with pytest.raises(UsageError, match="tpe, nsga2"):
        Loop(TOY, Goal.parse("min a, max b")).suggestion(OptunaSampler(kind))


# ---- the table


def test_optuna_reads_the_table_as_a_study():
    table = TrialTable([Direction.MAXIMIZE])
    done, running = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING
    table.put(row(2, done, {"x": 0.5}, {"x": optuna.distributions.FloatDistribution(0, 1)}, values=[3.0]))
    table.put(row(0, running))
    study = table.study(optuna.samplers.RandomSampler(seed=0))
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert [(t.number, t.state, t.params, t.values) for t in study.trials] == [
        (0, running, {}, None), (2, done, {"x": 0.5}, [3.0]),
    ]
    assert [t.number for t in study.get_trials(states=(done,))] == [2]
    table.drop(2)
    assert [t.number for t in study.trials] == [0]
    draft = table.new_draft(1)
    table.set_trial_system_attr(1, "note", 7)
    assert table.get_trial(1) is draft
    assert draft.system_attrs == {"note": 7}
    assert table.get_trial(0).number == 0
    assert [t.number for t in study.trials] == [0]
    with pytest.raises(KeyError):
        table.get_trial(2)
