"""Pauses in whole studies, simulated: killed at any moment, with lineages, with costs."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import velodrome as velo
from tests.trials.pauses import GOAL, SPACE, Bowls
from velodrome.clock import FakeClock
from velodrome.records import EventRow, StudyRow, trial_id
from velodrome.search.history import History
from velodrome.search.registry import make_sampler, make_scheduler
from velodrome.trials import events as ev
from velodrome.trials.controller import Controller
from velodrome.trials.executor import StudyContext
from velodrome.trials.manager import Manager
from velodrome.trials.memory_log import MemoryLog
from velodrome.trials.policy import Policy
from velodrome.trials.simulated_executor import Costs, SimulatedExecutor
from velodrome.trials.table import TrialTable
from velodrome.types import Failure, FailureClass, TrialState

SCHEDULERS = (
    "asha", "asha:type=stop", "asha:reduction=2,min_steps=2", "hyperband:reduction=2", "pbt:population=5,interval=2",
    "median:min_trials=2",
)


class Killed(Exception):  # noqa: N818 - what happened
    pass


class Mortal(SimulatedExecutor):
    """Dies before the event of this number."""

    lives = math.inf

    def _step(self, run: Any) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed
        super()._step(run)

    def close(self) -> None:
        if self.lives >= 0:
            super().close()


def a_controller(scheduler: str, log: MemoryLog, clock: FakeClock) -> Controller:
    row = StudyRow(1, "s", "running", str(GOAL), 5, 12, "random", scheduler, "{}", "", "{}", 0.0)
    table = TrialTable(History(SPACE, GOAL), make_scheduler(scheduler, GOAL, seed=5), Policy())
    return Controller(row, table, make_sampler("random", seed=5), log, clock)


def stored(log: MemoryLog) -> list[EventRow]:
    """What a resume reads: the log with the reports that were not forgotten."""
    merged: dict[int, dict[str, float]] = {}
    for row in log.reports:
        merged.setdefault(row.seq, {})[row.name] = row.value
    reports = {row.seq: row for row in log.reports}
    first = trial_id(1, 0)
    rows = []
    for seq, row in reports.items():
        data = json.dumps([row.step, {"loss": merged[seq]["loss"]}])
        rows.append(EventRow(1, seq, row.at, "reported", row.trial_id - first, data))
    return sorted([*log.events, *rows], key=lambda row: row.seq)


def run(scheduler: str, log: MemoryLog, lives: float = math.inf, trials: int = 12) -> Controller:
    """Runs a study, or goes on with it."""
    clock = FakeClock(log.events[-1].at if log.events else 0.0)
    controller = a_controller(scheduler, log, clock)
    controller.replay(iter(stored(log)))
    controller.journal.seq = max((row.seq for row in stored(log)), default=0)
    executor = Mortal(Bowls(), clock, 3, costs=Costs(suggest_s=0.0))
    executor.lives = lives
    context = StudyContext("s", GOAL.metrics, True, "", pauses=controller.table.scheduler.pauses)
    try:
        Manager(controller, executor, context, target=trials).run()
    except Killed:
        log.events = [row for row in log.events if row.kind != "closed"]
    controller.commit()
    return controller


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SCHEDULERS), st.lists(st.integers(0, 60), max_size=4))
def test_a_study_that_is_killed_at_any_moment_goes_on_as_its_log_says(scheduler: str, deaths: list[int]) -> None:
    log = MemoryLog()
    for lives in deaths:
        killed = run(scheduler, log, lives).table
        again = a_controller(scheduler, MemoryLog(), FakeClock())
        again.replay(iter(stored(log)))
        for table in (killed, again.table):
            table.handle(ev.Opened(12))
            table.check()
        assert again.table.live.keys() == killed.live.keys()
        for number, trial in again.table.live.items():
            for name in ("state", "step", "attempt", "pause_reason", "stop_reason", "checkpoints", "origin", "params"):
                assert getattr(trial, name) == getattr(killed.live[number], name), name
        assert again.table.counts == killed.counts
        assert again.table.roster.forks == killed.roster.forks
        assert again.table.next() == killed.next()
    table = run(scheduler, log).table
    table.check()
    assert table.done
    assert table.num_finished == (12 if "pbt" not in scheduler else table.roster.next_number)
    check_curves(log)


def check_curves(log: MemoryLog) -> None:
    """Every trial has the reports that its configuration gives, each once, whatever was done to it."""
    found = Counter((row.trial_id, row.step) for row in log.reports if row.name == "loss")
    assert set(found.values()) == {1}
    for row in log.reports:
        expected = Bowls().curve(log.param_values[row.trial_id]).metrics[row.step - 1]
        assert expected[row.name] == row.value


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_pauses_change_no_curve(scheduler: str) -> None:
    log, plain = MemoryLog(), MemoryLog()
    run(scheduler, log)
    run("none", plain)
    curves = {(row.trial_id, row.step, row.name): row.value for row in plain.reports}
    check_curves(log)
    if "pbt" not in scheduler:
        assert all(curves[row.trial_id, row.step, row.name] == row.value for row in log.reports)
        assert len(log.reports) < len(plain.reports)


def test_a_preempted_trial_of_a_simulated_study_goes_on_from_its_checkpoint() -> None:
    log, clock, taken = MemoryLog(), FakeClock(0.0), list[int]()
    controller = a_controller("asha", log, clock)

    class Taking(SimulatedExecutor):
        """Takes the place of whoever makes its second step, once."""

        def _step(self, run: Any) -> None:
            if run.done == 1 and run.job.number not in taken:
                taken.append(run.job.number)
                self.preempt(run.job.number, "bob has come", 1.0)
            super()._step(run)

    context = StudyContext("s", GOAL.metrics, True, "", pauses=True)
    Manager(controller, Taking(Bowls(), clock, 3, costs=Costs(suggest_s=0.0)), context, target=12).run()
    undisturbed = run("asha", other := MemoryLog())
    assert any(row.kind == "preempted" for row in log.events)
    assert controller.table.num_finished == undisturbed.table.num_finished == 12

    def curves(log: MemoryLog) -> dict[tuple[int, int | None], float]:
        return {(row.trial_id, row.step): row.value for row in log.reports}

    shared = curves(log).keys() & curves(other).keys()
    assert shared
    assert all(curves(log)[key] == curves(other)[key] for key in shared)


def test_the_same_seed_gives_the_same_simulation() -> None:
    for scheduler in SCHEDULERS:
        runs = [velo.simulate(Bowls(), SPACE, goal="minimize loss", trials=20, scheduler=scheduler, seed=3, workers=4,
                              costs=Costs(suggest_s=0.0)) for _ in range(2)]
        assert runs[0] == runs[1]


def test_costs_are_charged() -> None:
    def clock_s(**costs: float) -> float:
        return velo.simulate(Bowls(), SPACE, goal="minimize loss", trials=10, scheduler="asha:reduction=2", workers=1,
                             costs=Costs(**{"suggest_s": 0.0, **costs})).clock_s

    base = clock_s()
    assert clock_s(suggest_s=2.0) == pytest.approx(base + 20.0)
    assert clock_s(thaw_s=1.0) > base
    assert clock_s(checkpoint_s=1.0) > base
    measured = velo.simulate(Bowls(), SPACE, goal="minimize loss", trials=10, scheduler="asha:reduction=2", workers=1)
    assert measured.clock_s > base


def test_a_time_limit_is_kept() -> None:
    done = velo.simulate(Bowls(), SPACE, goal="minimize loss", trials=1000, workers=2, timeout_s=50.0)
    assert done.clock_s == 50.0
    assert sum(trial.spent_s for trial in done.trials) <= 2 * 50.0 + 2 * 2.0


def test_population_based_training_keeps_an_exact_lineage() -> None:
    log = MemoryLog()
    run("pbt:population=5,interval=2", log)
    origins = {row.number: json.loads(row.data)[2] for row in log.events
               if row.kind == "suggested" and len(json.loads(row.data)) > 2}
    children = {number: origin for number, origin in origins.items() if origin}
    assert len(children) >= 3
    assert sorted(children) == list(range(5, 5 + len(children)))
    for number, origin in children.items():
        mine, parents = log.param_values[trial_id(1, number)], log.param_values[trial_id(1, origin["parent"])]
        assert {name: [parents[name], mine[name]] for name in mine if mine[name] != parents[name]} == origin["changed"]
        assert SPACE.contains(mine)
        steps = [row.step for row in log.reports if row.trial_id == trial_id(1, number)]
        assert min(steps) == origin["step"] + 1
        assert json.loads(log.attrs[trial_id(1, number), "parent"]) == origin
    assert [d.action for d in log.decisions].count("fork") == len(children)


def test_a_member_that_fails_is_replaced_from_one_of_the_best() -> None:
    log, clock, failed = MemoryLog(), FakeClock(0.0), [1, 3]

    class Failing(SimulatedExecutor):
        """Two members fail in their fifth step."""

        def _step(self, run: Any) -> None:
            if run.done == 4 and run.job.number in failed:
                failed.remove(run.job.number)
                self._leave(run)
                assert self._host is not None
                self._host.happened(ev.Failed(run.job.number, Failure(FailureClass.USER, "broken").to_json()))
            else:
                super()._step(run)

    controller = a_controller("pbt:population=4,interval=2", log, clock)
    context = StudyContext("s", GOAL.metrics, True, "", pauses=True)
    Manager(controller, Failing(Bowls(), clock, 2, costs=Costs(suggest_s=0.0)), context, target=12).run()
    counts = controller.table.counts
    assert (counts[TrialState.FAILED], counts[TrialState.COMPLETED]) == (2, 4), "the population is whole at the end"
    forks = [row for row in log.decisions if row.action == "fork" and "failed or ended itself" in row.reason]
    assert len(forks) == 2
    again = a_controller("pbt:population=4,interval=2", MemoryLog(), FakeClock())
    again.replay(iter(stored(log)))
    assert again.table.counts == counts
    check_curves(log)


def test_a_simulation_without_checkpoints_stops_trials() -> None:
    done = velo.simulate(
        Bowls(), SPACE, goal="minimize loss", trials=30, scheduler="asha:reduction=3", checkpoints=False,
    )
    actions = Counter(decision.action for decision in done.decisions)
    assert actions["promote"] == 0
    assert actions["stop"] > 5
