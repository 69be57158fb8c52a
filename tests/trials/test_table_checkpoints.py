"""The trial table: what trials go on from, and which checkpoints stay."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.trials.tables import StopsBelow, a_table, failure, run, save_checkpoint
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.checkpoints import Kept
from velodrome.trials.policy import Policy
from velodrome.trials.table import TrialTable
from velodrome.types import FailureClass, TrialState


def test_a_lost_trial_waits_again_and_starts_from_nothing() -> None:
    scheduler = StopsBelow()
    table = a_table(scheduler=scheduler)
    run(table, 0)
    table.handle(ev.Reported(0, 1, {"accuracy": 0.7}))
    forget, save = table.handle(ev.Lost(0, "killed by SIGKILL"))
    assert forget == cmd.Forget(0)
    assert (save.trial.state, save.trial.metrics, save.trial.step) == (TrialState.WAITING, {}, None)
    assert scheduler.seen == []
    assert table.next() == cmd.Launch(0, 2, {"x": 0.5}), "before any new trial"
    table.check()


def test_a_lost_trial_goes_on_from_its_last_checkpoint() -> None:
    scheduler = StopsBelow()
    table = a_table(scheduler=scheduler)
    run(table, 0)
    for step in (1, 2, 3):
        table.handle(ev.Reported(0, step, {"accuracy": 0.7 + step / 100}))
        if step == 2:
            assert save_checkpoint(table, 0, 2, accuracy=0.72) == []
    forget, save = table.handle(ev.Lost(0, "killed by SIGKILL"))
    assert forget == cmd.Forget(0, 2)
    assert (save.trial.step, save.trial.metrics) == (2, {"accuracy": 0.72})
    assert [r.step for r in scheduler.seen] == [1, 2]
    assert table.next() == cmd.Launch(0, 2, {"x": 0.5}, (Kept(2, "0/2", "sha"),))
    table.handle(ev.Launched(0, "w0", "cpu"))
    assert table.handle(ev.Restored(0, 2, [])) == []
    table.check()


def test_a_running_trial_keeps_its_last_two_checkpoints() -> None:
    table = a_table()
    run(table, 0)
    assert save_checkpoint(table, 0, 1) == save_checkpoint(table, 0, 2) == []
    assert save_checkpoint(table, 0, 3) == [cmd.Discard(0, "0/1")]
    assert save_checkpoint(table, 0, 3, "again") == [cmd.Discard(0, "0/3")], "the same step once more"
    table.handle(ev.GivenBack(0))
    assert table.next() == cmd.Launch(0, 2, {"x": 0.5}, (Kept(3, "again", "sha"), Kept(2, "0/2", "sha")))


@pytest.mark.parametrize(("step", "left", "discarded"), [(3, 2, []), (2, 1, ["0/3"]), (None, 0, ["0/2", "0/3"])])
def test_a_trial_that_could_not_restore_its_last_checkpoint_goes_further_back(
    step: int | None, left: int, discarded: list[str]
) -> None:
    scheduler = StopsBelow()
    table = a_table(scheduler=scheduler)
    run(table, 0)
    for at in (1, 2, 3):
        table.handle(ev.Reported(0, at, {"accuracy": 0.7}))
        save_checkpoint(table, 0, at)
    table.handle(ev.Lost(0, "x"))
    table.handle(ev.Launched(0, "w0", "cpu"))
    commands = table.handle(ev.Restored(0, step, ["the checkpoint of step 3 is damaged"]))
    assert commands[: len(discarded)] == [cmd.Discard(0, path) for path in discarded]
    assert commands[len(discarded):] == ([cmd.Forget(0, step)] if discarded else [])
    assert len(table.live[0].checkpoints) == left
    assert table.live[0].step == step
    assert [r.step for r in scheduler.seen] == list(range(1, (step or 0) + 1))


def test_a_verdict_up_to_the_checkpoint_stands_and_a_later_one_does_not() -> None:
    table = a_table()
    for number, step in ((0, 2), (1, 1)):
        run(table, number)
        table.handle(ev.Reported(number, 2, {"accuracy": 0.1}))
        table.handle(ev.Judged(number, "too low"))
        save_checkpoint(table, number, step)
        table.handle(ev.Lost(number, "x"))
    first, *stops = table.handle(ev.Launched(0, "w0", "cpu"))
    assert (first.trial.number, stops) == (0, [cmd.Stop(0, "too low")])
    (second,) = table.handle(ev.Launched(1, "w0", "cpu"))
    assert second.trial.stop_reason == ""
    (save,) = [c for c in table.handle(ev.Returned(0, {"accuracy": 0.1})) if isinstance(c, cmd.Save)]
    assert save.trial.state is TrialState.PRUNED


@pytest.mark.parametrize("kind", [FailureClass.USER, FailureClass.OOM])
def test_a_retry_goes_on_from_the_last_checkpoint(kind: FailureClass) -> None:
    table = a_table(policy=Policy(retries=1))
    run(table, 0)
    save_checkpoint(table, 0, 4)
    forget, _ = table.handle(ev.Failed(0, failure(kind)))
    assert forget == cmd.Forget(0, 4)
    assert table.next() == cmd.Launch(0, 2, {"x": 0.5}, (Kept(4, "0/4", "sha"),))


def test_a_retry_of_a_diverged_trial_starts_from_nothing() -> None:
    table = a_table(policy=Policy(retries=1))
    run(table, 0)
    save_checkpoint(table, 0, 4)
    discard, forget, _ = table.handle(ev.Returned(0, {"accuracy": math.nan}))
    assert (discard, forget) == (cmd.Discard(0, "0/4"), cmd.Forget(0))
    assert table.next() == cmd.Launch(0, 2, {"x": 0.5})


def test_of_the_finished_trials_the_best_ones_checkpoint_stays() -> None:
    table = a_table(target=9)
    for number in range(4):
        run(table, number)
        save_checkpoint(table, number, 1)
        save_checkpoint(table, number, 2)
    ends: list[Any] = [
        ev.Returned(0, {"accuracy": 0.5}), ev.Returned(1, {"accuracy": 0.9}), ev.Returned(2, {"accuracy": 0.7}),
        ev.Failed(3, failure()),
    ]
    gone = [[c.path for c in table.handle(end) if isinstance(c, cmd.Discard)] for end in ends]
    assert gone == [["0/1"], ["1/1", "0/2"], ["2/1", "2/2"], ["3/1", "3/2"]]


def test_a_checkpoint_is_of_use_at_the_end_of_the_best_trial_so_far() -> None:
    table = a_table()
    run(table, 0)
    table.handle(ev.Reported(0, 1, {"accuracy": 0.7}))
    assert table.should_save(0, at_end=True)
    assert not table.should_save(0, at_end=False)
    save_checkpoint(table, 0, 1)
    table.handle(ev.Returned(0, {"accuracy": 0.7}, 1))
    for number, value, of_use in ((1, 0.6, False), (2, 0.8, True), (3, 0.3, False)):
        run(table, number)
        table.handle(ev.Reported(number, 1, {"accuracy": value}))
        assert table.should_save(number, at_end=True) == of_use
    table.handle(ev.Reported(2, 2, {"accuracy": math.nan}))
    assert not table.should_save(2, at_end=True)
    assert not table.should_save(0, at_end=True), "it is over"


def lends_and_borrows(rule: str) -> tuple[TrialTable, list[Any]]:
    """Trial 0 lends its checkpoint and is over, pruned; trial 1 begins from it. With what was discarded so far."""
    table = a_table(policy=Policy(keep_checkpoints=rule))
    table.handle(ev.Suggested(0, {"x": 0.5}, {"lends": True}))
    table.handle(ev.Launched(0, "w0", "cpu"))
    assert table.should_save(0, at_end=True), "whatever it reported"
    save_checkpoint(table, 0, 1)
    save_checkpoint(table, 0, 2)
    discards = [c for c in table.handle(ev.Quit(0, "trained")) if isinstance(c, cmd.Discard)]
    table.handle(ev.Suggested(1, {"x": 0.7}, {"begins_from": 0}))
    return table, discards


@pytest.mark.parametrize("rule", ["best", "none", "all"])
def test_a_trial_begins_from_what_a_finished_one_lends(rule: str) -> None:
    table, discards = lends_and_borrows(rule)
    assert discards == [cmd.Discard(0, "0/1")], "the last one stays, though the trial is no result"
    launch = cmd.Launch(1, 1, {"x": 0.7}, (Kept(-1, "0/2", "sha"),))
    assert table.next() == launch
    table.handle(ev.Launched(1, "w0", "cpu"))
    assert table.handle(ev.Restored(1, -1, [])) == []
    table.handle(ev.Reported(1, 0, {"accuracy": 0.8}))
    forget, save = table.handle(ev.Lost(1, "killed by SIGKILL"))
    assert forget == cmd.Forget(1, -1)
    assert (save.trial.step, save.trial.metrics) == (None, {}), "none of the lender's"
    assert table.next() == cmd.Launch(1, 2, {"x": 0.7}, launch.checkpoints)


def test_what_is_lent_stays_when_the_borrowers_are_done() -> None:
    table, _ = lends_and_borrows("none")
    table.handle(ev.Launched(1, "w0", "cpu"))
    table.handle(ev.Reported(1, 0, {"accuracy": 0.8}))
    assert save_checkpoint(table, 1, 0) == []
    ended = table.handle(ev.Returned(1, {"accuracy": 0.8}, 0))
    assert [c for c in ended if isinstance(c, cmd.Discard)] == [cmd.Discard(1, "1/0")], "its own alone"
    table.handle(ev.Suggested(2, {"x": 0.9}, {"begins_from": 0}))
    assert table.live[2].checkpoints[0].path == "0/2"
    table.check()


def test_a_trial_that_failed_lends_nothing() -> None:
    table = a_table()
    table.handle(ev.Suggested(0, {"x": 0.5}, {"lends": True}))
    table.handle(ev.Launched(0, "w0", "cpu"))
    save_checkpoint(table, 0, 1)
    assert cmd.Discard(0, "0/1") in table.handle(ev.Failed(0, failure()))
    table.handle(ev.Suggested(1, {"x": 0.7}, {"begins_from": 0}))
    assert table.next() == cmd.Launch(1, 1, {"x": 0.7})
