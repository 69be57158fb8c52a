import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.sampler_contract import SamplerContract
from velodrome.errors import SpaceError, UsageError
from velodrome.search.domains import Choice, Domain, Float, Int
from velodrome.search.history import FinishedTrial, History
from velodrome.search.optuna_bridge import OptunaSampler
from velodrome.search.optuna_samplers import KINDS
from velodrome.search.optuna_space import Layout, coding
from velodrome.search.optuna_table import TrialTable, row
from velodrome.search.random_sampler import RandomSampler
from velodrome.search.sampler import Sampler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import Direction, FailureClass, Goal, Params, Suggestion, TrialState

MOSTLY_QUICK = pytest.mark.parametrize(
    "kind", [*(kind for kind in KINDS if kind != "gp"), pytest.param("gp", marks=pytest.mark.slow)]
)
SMALL = {
    "tpe": {}, "gp": {"n_startup_trials": 4}, "cmaes": {"popsize": 5}, "nsga2": {"population_size": 6},
}
LOSS = Goal.parse("minimize loss")
TOY = Space(
    x=Float(-5, 5), y=Float(-5, 5), width=Int(8, 512, log=True),
    opt=Choice("sgd", adam={"beta": Float(0, 1), "eps": Float(1e-9, 1e-3, log=True)}),
)


def toy(params: Params) -> float:
    """A quadratic with its minimum, 0, inside the branch of a choice."""
    inside = (params["opt.beta"] - 0.3) ** 2 if params["opt"] == "adam" else 2.0
    return (params["x"] - 2) ** 2 + (params["y"] + 1) ** 2 + inside + abs(math.log2(params["width"]) - 6) / 4


@dataclass
class Loop:
    """What a controller does with a sampler, and a log from which the history can be rebuilt."""

    space: Space
    goal: Goal = LOSS
    seed: int = 0
    log: list[tuple] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        self.history = History(self.space, self.goal)

    def note(self, method: str, *args: object) -> None:
        self.log.append((method, args))
        getattr(self.history, method)(*args)

    def suggestion(self, sampler: Sampler) -> Suggestion:
        return sampler.suggest(self.number, self.history, generator(self.seed, "suggest", self.number))

    def start(self, sampler: Sampler) -> int:
        suggestion = self.suggestion(sampler)
        self.note("start", self.number, Suggestion(suggestion.params, json.loads(json.dumps(suggestion.attrs))))
        self.number += 1
        return self.number - 1

    def ask_param(self, sampler: Sampler, number: int, name: str, domain: Domain):
        rng = generator(self.seed, "suggest", number, name)
        value = sampler.suggest_param(number, name, domain, self.history, rng)
        self.note("add_param", number, name, domain, value)
        return value

    def complete(self, number: int, *values: float) -> None:
        self.note("finish", number, TrialState.COMPLETED, values)

    def run(self, sampler: Sampler, objective: Callable[[Params], float], trials: int) -> float:
        for _ in range(trials):
            number = self.start(sampler)
            self.complete(number, objective(self.history.running[number].params))
        return float(np.min(self.history.values))

    def rebuilt(self) -> "Loop":
        other = Loop(self.space, self.goal, self.seed)
        for method, args in self.log:
            other.note(method, *args)
        other.number = self.number
        return other


def finish_somehow(loop: Loop, number: int, value: float) -> None:
    """Ends a trial in one of all the ways a trial can end."""
    match number % 9:
        case 3:
            loop.note("finish", number, TrialState.PRUNED, (value + 1,), 4)
        case 4:
            loop.note("finish", number, TrialState.PRUNED, None)
        case 5:
            loop.note("finish", number, TrialState.FAILED, None, None, FailureClass.OOM)
        case 6:
            loop.note("finish", number, TrialState.FAILED, (math.nan,), 2, FailureClass.DIVERGED)
        case 7:
            loop.note("finish", number, TrialState.FAILED, None, None, FailureClass.USER)
        case _:
            loop.complete(number, value)


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


# ---- resume


@pytest.mark.parametrize(
    ("kind", "trials", "first"), [("tpe", 40, 12), ("cmaes", 60, 3), ("nsga2", 60, 3), ("gp", 13, 12)]
)
def test_a_rebuilt_sampler_goes_on_exactly_as_the_one_that_ran(kind, trials, first):
    loop, sampler = Loop(TOY), OptunaSampler(kind, 1, **SMALL[kind])
    chance = np.random.default_rng(5)
    for step in range(trials):
        loop.start(sampler)
        while len(loop.history.running) > 3:  # trials finish in any order
            number = int(chance.choice(list(loop.history.running)))
            finish_somehow(loop, number, toy(loop.history.running[number].params))
        if step >= first and step % 4 == 0:
            again = loop.rebuilt()
            fresh = OptunaSampler(kind, 1, **SMALL[kind])
            assert again.suggestion(fresh) == loop.suggestion(sampler)
            loop.start(sampler)
            again.start(fresh)
            assert again.log == loop.log


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "nsga2"])
def test_a_rebuilt_sampler_goes_on_exactly_for_a_define_by_run_objective(kind):
    loop, sampler = Loop(Space()), OptunaSampler(kind, 1, **SMALL[kind])

    def begin(loop: Loop, sampler: OptunaSampler) -> None:
        number = loop.start(sampler)
        loop.ask_param(sampler, number, "x", Float(-5, 5))
        if number % 3:
            loop.ask_param(sampler, number, "n", Int(1, 9))

    for step in range(40):
        begin(loop, sampler)
        again, fresh = loop.rebuilt(), OptunaSampler(kind, 1, **SMALL[kind])
        for each, by in ((loop, sampler), (again, fresh)):
            each.ask_param(by, each.number - 1, "y", Float(0.01, 5, log=True))
            begin(each, by)
        assert again.log == loop.log
        for number in list(loop.history.running)[: 1 + step % 2]:
            if step > 2:
                finish_somehow(loop, number, sum(map(float, loop.history.running[number].params.values())))
    assert len(loop.history) > 30


def test_cma_es_and_nsga2_move_on_by_generations_and_store_small_attributes_only():
    for kind, key in (("cmaes", "cma:generation"), ("nsga2", "NSGAIISampler:generation")):
        loop = Loop(TOY)
        loop.run(OptunaSampler(kind, 0, **SMALL[kind]), toy, 45)
        generations = [trial.attrs.get(key, 0) for trial in loop.history.finished()]
        assert generations == sorted(generations)
        assert generations[-1] >= 4
        told = [trial.attrs for trial in loop.history.finished() if "told" in trial.attrs]
        assert len(told) == generations[-1]
        assert max(len(json.dumps(dict(attrs))) for _, attrs in loop.history.attrs.items()) < 60


def test_cma_es_keeps_one_optimizer_in_memory():
    loop, sampler = Loop(TOY), OptunaSampler("cmaes", 0, popsize=5)
    loop.run(sampler, toy, 50)
    assert sampler._mirror is not None
    rows = [r for r in sampler._mirror.table.rows if r is not None]
    assert sum(any("optimizer" in key for key in r.system_attrs) for r in rows) == 1
    assert len(sampler._mirror._optimizers) <= 1


@MOSTLY_QUICK
def test_asked_again_for_one_number_it_suggests_another_and_forgets_the_first(kind):
    loop, sampler = Loop(TOY), OptunaSampler(kind, 0, **SMALL[kind])
    n = 6 if kind == "gp" else 16
    loop.run(sampler, toy, n)
    rng, again = generator(0, "suggest", n), generator(0, "suggest", n)
    first, second = (sampler.suggest(n, loop.history, rng) for _ in range(2))
    assert first.params != second.params
    fresh = OptunaSampler(kind, 0, **SMALL[kind])
    assert [fresh.suggest(n, loop.history, again) for _ in range(2)] == [first, second]
    loop.note("start", n, second)
    loop.number = n + 1
    assert loop.suggestion(sampler) == loop.rebuilt().suggestion(OptunaSampler(kind, 0, **SMALL[kind]))


def test_only_what_is_new_is_read_from_the_history(monkeypatch):
    loop, sampler = Loop(TOY), OptunaSampler("nsga2", 0, population_size=4)
    loop.run(sampler, toy, 30)
    read: list[FinishedTrial] = []
    finished = History.finished

    def watched(self, start=0):
        for trial in finished(self, start):
            read.append(trial)
            yield trial

    monkeypatch.setattr(History, "finished", watched)
    loop.run(sampler, toy, 5)
    assert [trial.number for trial in read] == [29, 30, 31, 32, 33]


def test_a_trial_that_was_dropped_leaves_no_trace():
    loop, sampler = Loop(TOY), OptunaSampler("tpe")
    loop.run(sampler, toy, 12)
    number = loop.start(sampler)
    loop.suggestion(sampler)
    del loop.log[-1]
    loop.history.drop(number)
    assert loop.suggestion(sampler) == loop.rebuilt().suggestion(OptunaSampler("tpe"))


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


# ---- quality


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


# ---- spaces

_NUMBERS = st.sampled_from([-7.5, -1.0, 0.0, 0.1, 0.3, 1.0, 3.0, 17.25])


@st.composite
def domains(draw) -> Domain:
    kind = draw(st.sampled_from(["float", "log float", "int", "log int", "choice"]))
    if kind == "choice":
        return Choice(*draw(st.permutations([True, 1, 0, False, "a", None, 2.5]))[: draw(st.integers(1, 7))])
    low, width = draw(_NUMBERS), draw(st.sampled_from([0.0, 0.25, 1.0, 2.0, 13.7, 4000.0]))
    if "int" in kind:
        low = int(low) if kind == "int" else max(1, int(low))
        return Int(low, low + int(width), log=kind == "log int", step=draw(st.integers(1, 5)))
    low = low if kind == "float" else max(1e-5, low)
    return Float(low, low + width, log=kind == "log float", step=draw(st.sampled_from([None, None, 0.1, 0.25, 1 / 3])))


@given(domains(), st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_every_value_has_a_code_in_optunas_range_and_every_code_is_a_value(domain, points, seed):
    told = coding(domain)
    for value in map(domain.from_unit, points):
        back = told.decode(told.encode(value))
        assert back == pytest.approx(value, rel=1e-9) if isinstance(domain, Float) else back is value or back == value
        assert type(back) is type(value)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    draft = row(0, optuna.trial.TrialState.RUNNING)
    drawn = study.sampler.sample_independent(study, draft, "p", told.distribution)
    assert domain.contains(told.decode(drawn))


@pytest.mark.parametrize("kind", KINDS)
def test_suggestions_are_configurations_of_any_space(kind):
    space = Space(
        {"learning rate": Float(1e-5, 1e-1, log=True)}, one=Float(2, 2), only=Choice("here"), flag=Choice(True, 1, 1.5),
        drop=Float(0, 0.5, step=0.1), grid=Float(0.1, 100, log=True, step=0.1), thirds=Float(0, 3, step=1 / 3),
        even=Int(2, 11, step=2), units=Int(4, 512, log=True, step=4), big=Int(-(2**53), 2**53),
        net=Choice(
            None, mlp={"depth": Int(1, 4), "act": Choice("relu", "gelu")},
            cnn={"depth": Int(1, 4), "pool": Choice("max", avg={"size": Int(2, 3)})}, lonely={"fixed": Int(3, 3)},
        ),
    )
    loop, sampler = Loop(space), OptunaSampler(kind, 0, **SMALL[kind])
    seen = set()
    for _ in range(9 if kind == "gp" else 60):
        number = loop.start(sampler)
        params = loop.history.running[number].params
        space.check(params)
        seen.add(params["net"])
        assert list(params) == [name for name in space.domains if name in params]
        loop.complete(number, abs(math.log10(params["grid"])) + params["drop"])
    assert kind == "gp" or seen == {None, "mlp", "cnn", "lonely"}


def test_a_space_of_choices_only_and_an_empty_space():
    for kind in KINDS:
        sampler = OptunaSampler(kind, 0, **SMALL[kind])
        space = Space(a=Choice("p", "q", "r"), b=Choice(True, False))
        loop = Loop(space)
        loop.run(sampler, lambda params: 2 * (params["a"] != "q") + (params["b"] is True), 8 if kind == "gp" else 30)
        assert space.contains(loop.suggestion(sampler).params)
        late = [trial.params["a"] == "q" for trial in loop.history.finished(15)]
        assert kind == "gp" or sum(late) > 5  # of 15; by chance 5
        assert Loop(Space()).suggestion(OptunaSampler(kind)).params == {}


@pytest.mark.parametrize("kind", KINDS)
def test_constraints_hold_and_a_random_configuration_helps_out(kind):
    space = Space(a=Int(1, 100), b=Int(1, 100), constraints=["a + b <= 20"])  # 2 % of the space
    loop, sampler = Loop(space), OptunaSampler(kind, 0, **SMALL[kind])
    loop.run(sampler, lambda params: -params["a"], 6 if kind == "gp" else 20)
    assert all(space.contains(trial.params) for trial in loop.history.finished())
    impossible = Space(a=Int(1, 9), b=Int(1, 9), constraints=["a > b + 10"])
    with pytest.raises(SpaceError, match="a > b"):
        Loop(impossible).suggestion(OptunaSampler(kind))


def test_constants_need_no_model():
    layout = Layout(Space(a=Int(3, 3), b=Choice("x", y={"c": Float(1, 1), "d": Float(0, 1)})))
    assert [(list(g.distributions), g.constants, g.parent, g.options) for g in layout.groups] == [
        (["b"], {"a": 3}, "", frozenset()), (["b.d"], {"b.c": 1.0}, "b", frozenset({1})),
    ]


# ---- define by run


def test_define_by_run_parameters_may_change_their_range_and_be_asked_for_twice():
    for kind in KINDS:
        loop, sampler = Loop(Space()), OptunaSampler(kind, 0, **SMALL[kind])
        for number in range(7 if kind == "gp" else 18):
            loop.start(sampler)
            assert loop.history.running[number].params == {}
            high = 3 + number % 4
            n = loop.ask_param(sampler, number, "n", Int(1, high))
            assert 1 <= n <= high
            assert sampler.suggest_param(number, "n", Int(1, high), loop.history, generator(9)) == n
            c = loop.ask_param(sampler, number, "c", Choice("a", "b"))
            assert loop.ask_param(sampler, number, "one", Int(4, 4)) == 4
            if c == "a":
                assert 0.5 <= loop.ask_param(sampler, number, "z", Float(0.5, 2, log=True, step=0.5)) <= 2
            loop.complete(number, n + (c == "a"))
        with pytest.raises(SpaceError, match="z"):
            sampler.suggest_param(loop.start(sampler), "z", Float(2, 1), loop.history, generator(0))


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


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(range(9)), min_size=12, max_size=30), st.sampled_from(["tpe", "cmaes", "nsga2"]))
def test_however_trials_end_the_rebuilt_sampler_agrees(ends, kind):
    options = {**SMALL[kind], "n_startup_trials": 4} if kind == "tpe" else SMALL[kind]
    loop, sampler = Loop(TOY), OptunaSampler(kind, 0, **options)
    for end in ends:
        loop.start(sampler)
        oldest = next(iter(loop.history.running))
        if end != 8:
            number = oldest if end % 2 else loop.number - 1
            finish_somehow(loop, number, toy(loop.history.running[number].params))
    assert loop.suggestion(sampler) == loop.rebuilt().suggestion(OptunaSampler(kind, 0, **options))


def test_a_paused_trial_is_told_as_pruned_until_more_is_known_of_it() -> None:
    """Else a scheduler that pauses nearly every trial would hide nearly everything from the sampler."""
    history, sampler = History(TOY, LOSS), OptunaSampler("tpe")
    for number in range(12):
        history.start(number, Suggestion(TOY.sample(generator(0, number))))
    history.note(3, (0.5,), 4)
    history.note(5, (math.nan,), 4)
    sampler.suggest(12, history, generator(0, "a"))
    assert sampler._mirror is not None
    rows = sampler._mirror.table.rows
    states = optuna.trial.TrialState
    assert [rows[n].state for n in (2, 3, 5)] == [states.RUNNING, states.PRUNED, states.RUNNING]
    assert rows[3].intermediate_values == {4: 0.5}
    history.note(3, (0.25,), 16)
    sampler.suggest(12, history, generator(0, "a"))
    assert rows[3].intermediate_values == {16: 0.25}
    history.finish(3, TrialState.COMPLETED, (0.125,), 20)
    resumed = OptunaSampler("tpe").suggest(12, history, generator(0, "a"))
    assert sampler.suggest(12, history, generator(0, "a")) == resumed
    assert (rows[3].state, rows[3].value) == (states.COMPLETE, 0.125)
    assert history.so_far.keys() == {5}
