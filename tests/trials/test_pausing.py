"""Pausing and promoting, in the trial table: nothing is lost, repeated or different for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.trials.pauses import a_table, begin, report, save
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.checkpoints import Kept
from velodrome.trials.lending import Fork, Lending
from velodrome.trials.retention import Saved
from velodrome.trials.table import TrialTable
from velodrome.types import Action, Decision, TrialState


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
    assert "stopped at rungs, not paused: no checkpoint" in give_up.reason
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
