"""The bridge to Optuna's samplers: one made anew over the same history goes on exactly as the one that ran."""

import json
import math

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.optuna_loop import LOSS, MOSTLY_QUICK, SMALL, TOY, Loop, finish_somehow, toy
from velodrome.search.domains import Float, Int
from velodrome.search.history import FinishedTrial, History
from velodrome.search.optuna_bridge import OptunaSampler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import Suggestion, TrialState


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
