"""The trial table: events in, exact commands out; checkpoints, failures and whole stories have files of their own."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.trials.tables import GO_ON, STOP, a_table, failure, run, suggest
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.types import Decision, FailureClass, TrialState


def test_a_trial_goes_from_suggestion_to_completion() -> None:
    table = a_table()
    assert table.next() == cmd.Suggest(0)
    (save,) = suggest(table, 0)
    assert save.trial.state is TrialState.WAITING
    assert table.next() == cmd.Launch(0, 1, {"x": 0.5})
    (save,) = table.handle(ev.Launched(0, "w0", "cpu"))
    assert (save.trial.state, save.trial.attempt, save.trial.worker) == (TrialState.RUNNING, 1, "w0")
    assert table.next() == cmd.Suggest(1)
    (save,) = table.handle(ev.Returned(0, {"accuracy": 0.9}))
    assert (save.trial.state, save.trial.values) == (TrialState.COMPLETED, (0.9,))
    assert table.num_finished == 1
    table.check()


def test_exactly_the_asked_number_of_trials_is_asked_for() -> None:
    table = a_table(target=2)
    for number in range(2):
        run(table, number)
    assert table.next() is None
    assert not table.done
    for number in range(2):
        table.handle(ev.Returned(number, {"accuracy": 1.0}))
    assert table.done


def test_a_scheduler_decides_and_the_verdict_makes_the_trial_pruned() -> None:
    table = a_table()
    run(table, 0)
    assert table.handle(ev.Reported(0, 1, {"accuracy": 0.7})) == [cmd.Decide(0, Decision(GO_ON, "0.7 against 0.5"))]
    assert table.handle(ev.Reported(0, 2, {"accuracy": 0.2})) == [cmd.Decide(0, Decision(STOP, "0.2 against 0.5"))]
    assert table.handle(ev.Judged(0, "too low")) == [cmd.Stop(0, "too low")]
    assert table.handle(ev.Reported(0, 3, {"accuracy": 0.9})) == [], "judged once"
    (save,) = table.handle(ev.Returned(0, {"accuracy": 0.9}, 3))
    assert (save.trial.state, save.trial.reason, save.trial.values) == (TrialState.PRUNED, "too low", (0.9,))


def test_a_report_without_the_goals_metric_is_not_judged() -> None:
    table = a_table()
    run(table, 0)
    assert table.handle(ev.Reported(0, 1, {"loss": 0.1})) == []


def test_a_trial_that_quits_keeps_its_last_value() -> None:
    table = a_table()
    run(table, 0)
    (save,) = table.handle(ev.Quit(0, "enough", {"accuracy": 0.4}, 2))
    assert (save.trial.state, save.trial.values, save.trial.reason) == (TrialState.PRUNED, (0.4,), "enough")
    run(table, 1)
    (save,) = table.handle(ev.Quit(1, "enough"))
    assert (save.trial.state, save.trial.values) == (TrialState.PRUNED, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_goal_that_is_not_finite_has_diverged(value: float) -> None:
    table = a_table()
    run(table, 0)
    (save,) = table.handle(ev.Returned(0, {"accuracy": value}, 7))
    assert save.trial.state is TrialState.FAILED
    assert save.trial.failure.kind is FailureClass.DIVERGED
    assert save.trial.failure.message == f"accuracy is {value} (last report: step 7)"


def test_a_result_without_the_goals_metric_is_the_users_failure() -> None:
    table = a_table()
    run(table, 0)
    (save,) = table.handle(ev.Returned(0, {"loss": 0.1}))
    assert save.trial.failure.kind is FailureClass.USER
    assert "'accuracy'" in save.trial.failure.message


def test_an_exhausted_sampler_ends_the_study_when_its_trials_are_done() -> None:
    table = a_table(target=10)
    run(table, 0)
    table.handle(ev.Exhausted("grid of 1"))
    assert table.next() is None
    assert not table.done
    table.handle(ev.Returned(0, {"accuracy": 0.9}))
    assert table.done


def test_opening_again_puts_running_trials_back() -> None:
    table = a_table()
    run(table, 0)
    table.handle(ev.Reported(0, 1, {"accuracy": 0.7}))
    forget, save = table.handle(ev.Opened(3))
    assert (forget, save.trial.state) == (cmd.Forget(0), TrialState.WAITING)


def test_messages_about_a_finished_trial_change_nothing() -> None:
    table = a_table()
    run(table, 0)
    table.handle(ev.Returned(0, {"accuracy": 0.9}))
    late: list[Any] = [
        ev.Returned(0, {"accuracy": 0.1}), ev.Quit(0, "x"), ev.Failed(0, failure()), ev.Lost(0, "x"),
        ev.GivenBack(0), ev.Reported(0, 1, {"accuracy": 0.1}), ev.Judged(0, "x"),
    ]
    assert [table.handle(event) for event in late] == [[]] * len(late)
    assert table.num_finished == 1
