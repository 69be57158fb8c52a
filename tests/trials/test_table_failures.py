"""The trial table: trials that are lost, fail, hang or give their place away, and the studies that this ends."""

from __future__ import annotations

from tests.trials.tables import a_table, failure, run, save_checkpoint
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.checkpoints import Kept
from velodrome.trials.policy import Policy
from velodrome.types import FailureClass, TrialState


def test_the_user_hears_of_the_first_trial_that_could_not_be_fused() -> None:
    table = a_table()
    for number, reason in ((0, "its model looks at values"), (1, "so does this")):
        run(table, number)
        table.handle(ev.Noted(number, "fusion", "train alone", reason))
    assert table.remark == "trial 0 is trained by itself: its model looks at values"


def test_a_trial_that_was_given_back_says_why() -> None:
    table = a_table()
    run(table, 0)
    [_, saved] = table.handle(ev.GivenBack(0, True, "2 trials in one model: no memory"))
    assert (saved.trial.reason, saved.trial.attempt) == ("2 trials in one model: no memory", 1)


def test_a_trial_that_was_given_back_unstarted_was_not_attempted() -> None:
    table = a_table()
    run(table, 0)
    table.handle(ev.GivenBack(0, ran=False))
    assert table.next() == cmd.Launch(0, 1, {"x": 0.5})
    table.handle(ev.Launched(0, "w", "cpu"))
    table.handle(ev.GivenBack(0))
    assert table.next() == cmd.Launch(0, 2, {"x": 0.5})


def test_losses_do_not_count_as_retries_but_end_at_last() -> None:
    table = a_table(policy=Policy(retries=1, max_losses=2))
    run(table, 0)
    for _ in range(2):
        table.handle(ev.Lost(0, "gone"))
        table.handle(ev.Launched(0, "w", "cpu"))
    table.handle(ev.Failed(0, failure()))
    assert table.live[0].state is TrialState.WAITING, "the retry is still there"
    table.handle(ev.Launched(0, "w", "cpu"))
    (save,) = table.handle(ev.Lost(0, "gone"))
    assert (save.trial.state, save.trial.failure.kind) == (TrialState.FAILED, FailureClass.LOST)


def test_losses_of_a_trial_that_comes_further_each_time_are_forgotten() -> None:
    table = a_table(policy=Policy(max_losses=2))
    run(table, 0)
    for step in range(1, 8):
        table.handle(ev.Reported(0, step, {"accuracy": 0.5}))
        save_checkpoint(table, 0, step)
        table.handle(ev.Lost(0, "gone"))
        assert isinstance(table.next(), cmd.Launch)
        table.handle(ev.Launched(0, "w0", "cpu"))
    save_checkpoint(table, 0, 7, "again")
    table.handle(ev.Lost(0, "gone"))
    assert isinstance(table.next(), cmd.Launch), "twice at the same step"
    table.handle(ev.Launched(0, "w0", "cpu"))
    save_checkpoint(table, 0, 2)
    [save] = [command for command in table.handle(ev.Lost(0, "gone")) if isinstance(command, cmd.Save)]
    assert save.trial.state is TrialState.FAILED
    assert save.trial.failure is not None
    assert save.trial.failure.message == "lost its worker 3 times, last: gone"



def test_a_failed_trial_is_retried_as_often_as_the_policy_says() -> None:
    table = a_table(policy=Policy(retries=1))
    run(table, 0)
    forget, save = table.handle(ev.Failed(0, failure()))
    assert forget == cmd.Forget(0)
    assert save.trial.reason == "retry 1 of 1 after: boom"
    table.handle(ev.Launched(0, "w", "cpu"))
    (save,) = table.handle(ev.Failed(0, failure()))
    assert (save.trial.state, save.trial.attempt) == (TrialState.FAILED, 2)


def test_a_preempted_trial_waits_again_at_no_cost_and_goes_on_from_its_checkpoint() -> None:
    table = a_table(policy=Policy(retries=1, max_losses=1))
    run(table, 0)
    save_checkpoint(table, 0, 4)
    for attempt in range(2, 12):
        forget, save = table.handle(ev.Preempted(0, "bob has come"))
        assert forget == cmd.Forget(0, 4)
        assert (save.trial.state, save.trial.failure.kind) == (TrialState.WAITING, FailureClass.PREEMPTED)
        assert save.trial.reason == "gave its place away: bob has come"
        assert table.next() == cmd.Launch(0, attempt, {"x": 0.5}, (Kept(4, "0/4", "sha"),))
        (save,) = table.handle(ev.Launched(0, "w", "cpu"))
        assert save.trial.failure is None
    trial = table.live[0]
    assert (trial.losses, trial.errors, trial.hangs) == (0, 0, 0)


def test_a_trial_that_hangs_is_started_again_twice_and_its_retries_are_left() -> None:
    table = a_table(policy=Policy(retries=1))
    run(table, 0)
    for start in (2, 3):
        forget, save = table.handle(ev.Failed(0, failure(FailureClass.HUNG)))
        assert (forget, save.trial.reason) == (cmd.Forget(0), f"start {start} of 3: boom")
        table.handle(ev.Launched(0, "w", "cpu"))
    (save,) = table.handle(ev.Failed(0, failure(FailureClass.HUNG)))
    assert (save.trial.state, save.trial.failure.kind) == (TrialState.FAILED, FailureClass.HUNG)


def test_a_trial_that_can_runs_again_with_half_the_batch_until_that_helps_no_more() -> None:
    table = a_table(policy=Policy(retries=0, halvings=2))
    run(table, 0)
    save_checkpoint(table, 0, 4)
    for divisor in (2, 4):
        note, forget, save = table.handle(ev.Failed(0, failure(FailureClass.OOM)))
        assert note == cmd.Note(0, "halve batch", f"its batches are cut into {divisor}, after: boom")
        assert (forget, save.trial.state) == (cmd.Forget(0, 4), TrialState.WAITING)
        launch = table.next()
        assert isinstance(launch, cmd.Launch)
        assert launch.batch_divisor == divisor
        table.handle(ev.Launched(0, "w", "cpu"))
    save, *_ = table.handle(ev.Failed(0, failure(FailureClass.OOM)))
    assert (save.trial.state, save.trial.failure.kind) == (TrialState.FAILED, FailureClass.OOM)


def test_the_study_stops_when_the_first_trials_all_fail_alike() -> None:
    table = a_table(target=10, policy=Policy(breaker=3))
    for number in range(3):
        run(table, number)
    assert len(table.handle(ev.Failed(0, failure()))) == 1
    assert len(table.handle(ev.Failed(1, failure()))) == 1
    *_, abort = table.handle(ev.Failed(2, failure()))
    assert abort == cmd.Abort("the first 3 trials all failed in the same way: boom")
    assert table.done
    assert table.next() is None


def test_different_failures_do_not_stop_the_study() -> None:
    table = a_table(target=10, policy=Policy(breaker=3))
    for number in range(6):
        run(table, number)
        table.handle(ev.Failed(number, failure(line=number % 2)))
    assert not table.aborted


def test_one_success_among_the_first_keeps_the_study_going() -> None:
    table = a_table(target=10, policy=Policy(breaker=2))
    run(table, 0)
    table.handle(ev.Returned(0, {"accuracy": 0.9}))
    for number in range(1, 6):
        run(table, number)
        table.handle(ev.Failed(number, failure()))
    assert not table.aborted


def test_an_aborted_study_gets_a_new_chance_when_it_is_opened_again() -> None:
    table = a_table(target=10, policy=Policy(breaker=1))
    run(table, 0)
    table.handle(ev.Failed(0, failure()))
    assert table.done
    table.handle(ev.Opened(10))
    assert table.next() == cmd.Suggest(1)
