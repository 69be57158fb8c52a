"""Pausing and promoting, from the trial table to whole studies: nothing is lost, repeated or different for it."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import velodrome as velo
from velodrome.clock import FakeClock
from velodrome.records import EventRow, StudyRow, trial_id
from velodrome.search.history import History
from velodrome.search.registry import make_sampler, make_scheduler
from velodrome.search.space import Space
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.checkpoints import Kept
from velodrome.trials.controller import Controller
from velodrome.trials.executor import StudyContext
from velodrome.trials.lending import Fork, Lending
from velodrome.trials.manager import Manager
from velodrome.trials.memory_log import MemoryLog
from velodrome.trials.policy import Policy
from velodrome.trials.retention import Saved
from velodrome.trials.simulated_executor import Costs, Curve, SimulatedExecutor
from velodrome.trials.table import TrialTable
from velodrome.types import Action, Decision, Failure, FailureClass, Goal, TrialState

SPACE = Space(x=velo.Float(0.0, 1.0), pace=velo.Float(0.5, 2.0))
GOAL = Goal.parse("minimize loss")
SCHEDULERS = (
    "asha", "asha:type=stop", "asha:reduction=2,min_steps=2", "hyperband:reduction=2", "pbt:population=5,interval=2",
    "median:min_trials=2",
)


class Bowls:
    """Curves that fall towards the configuration's own level."""

    def curve(self, params: dict[str, Any]) -> Curve:
        x, pace = params["x"], params["pace"]
        metrics = [{"loss": (x - 0.3) ** 2 + 1 / step + 0.1 * math.sin(40 * x + step), "pace": pace}
                   for step in range(1, 13)]
        return Curve(metrics, [pace] * 12)


def a_table(scheduler: str, target: int = 3) -> TrialTable:
    table = TrialTable(History(SPACE, GOAL), make_scheduler(scheduler, GOAL), Policy())
    table.handle(ev.Opened(target))
    return table


def begin(table: TrialTable, number: int, **more: Any) -> None:
    table.handle(ev.Suggested(number, {"x": 0.1 * number, "pace": 1.0}, {}, **more))
    table.handle(ev.Launched(number, "w", "cpu"))


def report(table: TrialTable, number: int, step: int, loss: float) -> list[Any]:
    """A report, and what the controller does about the decision."""
    commands = table.handle(ev.Reported(number, step, {"loss": loss}))
    for command in commands:
        if isinstance(command, cmd.Decide) and command.decision.action is not Action.CONTINUE:
            decision = command.decision
            table.handle(ev.Judged(number, decision.reason, decision.action, decision.parent))
    table.check()
    return commands


def save(table: TrialTable, number: int, step: int) -> list[Any]:
    trial = table.live[number]
    return table.handle(ev.Checkpointed(
        number, step, f"{number}/{step}", "sha", 1, dict(trial.metrics), trial.step
    ))


# --- the table


def test_a_pause_takes_effect_at_the_first_checkpoint_of_the_last_reports_step() -> None:
    table = a_table("asha")
    begin(table, 0)
    [decide] = report(table, 0, 1, 0.5)
    assert decide.decision == Decision(Action.PAUSE, "rung 1: 0.5 is number 1 of 1, of which none go on so far")
    assert not table.should_pause(0), "there is no checkpoint yet"
    assert table.should_save(0, at_end=False), "so one is of use"
    save(table, 0, 1)
    assert table.should_pause(0)
    (saved,) = table.handle(ev.Paused(0))
    assert (saved.trial.state, table.counts[TrialState.PAUSED]) == (TrialState.PAUSED, 1)
    table.check()
    assert table.next() == cmd.Suggest(1), "its place is free"


def test_a_checkpoint_that_is_made_before_the_report_will_do() -> None:
    table = a_table("asha")
    begin(table, 0)
    save(table, 0, 1)
    report(table, 0, 1, 0.5)
    assert table.should_pause(0)


def test_a_checkpoint_behind_the_reports_will_not_do() -> None:
    """Going on from it would report step 2 again."""
    table = a_table("asha:min_steps=2")
    begin(table, 0)
    report(table, 0, 1, 0.5)
    save(table, 0, 1)
    report(table, 0, 2, 0.5)
    assert not table.should_pause(0)
    save(table, 0, 3)
    assert not table.should_pause(0), "the report of step 3 may come after it"
    report(table, 0, 3, 0.5)
    assert table.should_pause(0)


def test_where_checkpoints_and_reports_never_meet_that_is_said() -> None:
    table = a_table("asha", target=9)
    begin(table, 0)
    for step in range(1, 9, 2):
        report(table, 0, step, 0.5)
        save(table, 0, step + 1)
    *_, give_up, _discard = table.handle(ev.Returned(0, {"loss": 0.4}, 1))
    assert isinstance(give_up, cmd.GiveUpPausing)
    assert "no checkpoint was of the same step as a report up to step 1" in give_up.reason


def paused(table: TrialTable, number: int, loss: float) -> None:
    begin(table, number)
    report(table, number, 1, loss)
    save(table, number, 1)
    table.handle(ev.Paused(number))
    table.check()


def test_the_best_is_promoted_when_enough_have_come_so_far() -> None:
    table = a_table("asha:reduction=2", target=4)
    paused(table, 0, 0.2)
    paused(table, 1, 0.3)
    assert table.next() == cmd.Take(0, Decision(Action.PROMOTE, "rung 1: 0.2 is in the top 1/2 of 2 by now"))
    table.handle(ev.Thawed(0, "promoted"))
    assert table.next() == cmd.Launch(0, 2, {"x": 0.0, "pace": 1.0}, (Kept(1, "0/1", "sha"),))
    table.handle(ev.Launched(0, "w", "cpu"))
    assert table.next() == cmd.Suggest(2)
    [decide] = report(table, 0, 2, 0.1)
    assert decide.decision.action is Action.PAUSE


def test_at_the_end_the_best_goes_on_to_its_end_and_the_others_are_given_up() -> None:
    table = a_table("asha", target=2)
    paused(table, 0, 0.2)
    paused(table, 1, 0.3)
    take = table.next()
    assert isinstance(take, cmd.Take)
    assert (take.number, take.decision.action) == (0, Action.PROMOTE)
    table.handle(ev.Thawed(0, take.decision.reason))
    table.handle(ev.Launched(0, "w", "cpu"))
    assert table.next() is None, "one still runs"
    table.handle(ev.Returned(0, {"loss": 0.1}, 9))
    give_up = table.next()
    assert isinstance(give_up, cmd.GiveUp)
    assert give_up.number == 1
    table.handle(ev.Quit(1, give_up.reason, {"loss": 0.3}, 1))
    assert table.done
    assert [t.state for t in table.history.finished()] == [TrialState.COMPLETED, TrialState.PRUNED]


@pytest.mark.parametrize("event", [ev.Lost(0, "x"), ev.GivenBack(0), ev.Opened(3), ev.Preempted(0, "x")])
def test_a_trial_whose_worker_dies_while_it_leaves_is_paused_all_the_same(event: Any) -> None:
    table = a_table("asha")
    begin(table, 0)
    report(table, 0, 1, 0.5)
    save(table, 0, 1)
    table.handle(event)
    table.check()
    trial = table.live[0]
    assert (trial.state, trial.reason, trial.failure) == (TrialState.PAUSED, trial.pause_reason, None)
    assert table.next() == cmd.Suggest(1), "the scheduler has it now, not the queue"


def test_a_trial_that_dies_before_its_checkpoint_is_judged_again() -> None:
    table = a_table("asha")
    begin(table, 0)
    report(table, 0, 1, 0.5)
    table.handle(ev.Lost(0, "x"))
    assert table.live[0].state is TrialState.WAITING
    table.handle(ev.Launched(0, "w", "cpu"))
    [decide] = report(table, 0, 1, 0.5)
    assert decide.decision.action is Action.PAUSE


@pytest.mark.parametrize("last", [ev.Reported(0, 2, {"loss": 0.4}), ev.Returned(0, {"loss": 0.4}, 1)])
def test_without_checkpoints_trials_are_stopped_instead_and_that_is_said_once(last: Any) -> None:
    table = a_table("asha", target=9)
    begin(table, 0)
    report(table, 0, 1, 0.5)
    *_, give_up = table.handle(last)
    assert isinstance(give_up, cmd.GiveUpPausing)
    assert "no checkpoint was made up to step" in give_up.reason
    assert "stopped at rungs instead" in give_up.reason
    table.handle(ev.NoPausing(give_up.reason))
    assert table.remark == give_up.reason
    actions = []
    for number in range(1, 5):
        begin(table, number)
        actions += [c.decision.action for c in report(table, number, 1, 0.5 + number)]
        assert all(not isinstance(c, cmd.GiveUpPausing) for c in report(table, number, 2, 0.5))
    assert actions == [Action.CONTINUE, Action.CONTINUE, Action.STOP, Action.STOP]


def test_a_preempted_trial_that_began_from_anothers_checkpoint_begins_there_again() -> None:
    table = a_table("asha")
    saved = Saved(1, "0/1", "sha", {"loss": 0.5}, 1)
    begin(table, 0)
    fork = Fork(0, {"x": 0.0, "pace": 1.0}, saved)
    table.roster.forks.append(fork)
    origin = fork.origin({"x": 0.5, "pace": 1.0})
    table.handle(ev.Suggested(1, {"x": 0.5, "pace": 1.0}, {}, origin))
    table.handle(ev.Launched(1, "w", "cpu"))
    report(table, 1, 2, 0.4)
    forget, _save = table.handle(ev.Preempted(1, "bob has come"))
    assert forget == cmd.Forget(1, 1)
    trial = table.live[1]
    assert (trial.state, trial.step, trial.metrics) == (TrialState.WAITING, 1, {"loss": 0.5})
    assert table.next() == cmd.Launch(1, 2, {"x": 0.5, "pace": 1.0}, (Kept(1, "0/1", "sha"),), origin)


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


def test_a_checkpoint_that_is_lent_stays_until_nobody_needs_it() -> None:
    lending, saved = Lending(), Saved(1, "a", "", {}, 1)
    lending.lend(0, "a")
    lending.lend(0, "a")
    assert lending.is_borrowed(1, "a")
    assert not lending.is_borrowed(0, "a")
    assert lending.drop(0, [saved]) == []
    assert lending.drop(1, [saved]) == []
    assert lending.drop(2, [saved]) == [(0, "a")]
    assert lending.drop(3, [Saved(1, "b", "", {}, 1)]) == [(3, "b")]


# --- whole studies


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
