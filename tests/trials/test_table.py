"""The trial table: events in, exact commands out, and what must hold after any sequence of events."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velodrome.search.domains import Float
from velodrome.search.history import History
from velodrome.search.no_scheduler import NoScheduler
from velodrome.search.scheduler import Peers, Scheduler
from velodrome.search.space import Space
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.checkpoints import Kept
from velodrome.trials.policy import Policy
from velodrome.trials.table import TrialTable
from velodrome.types import Action, Decision, Failure, FailureClass, Goal, Report, TrialState

GO_ON, STOP, PAUSE = Action.CONTINUE, Action.STOP, Action.PAUSE


class StopsBelow:
    """Stops a trial whose value is under a half; remembers what it saw."""

    needs_reports = True
    pauses = False

    def __init__(self) -> None:
        self.seen: list[Report] = []

    def decide(self, report: Report, peers: Peers) -> Decision | None:
        self.seen.append(report)
        return Decision(GO_ON if report.value >= 0.5 else STOP, f"{report.value} against 0.5")

    def forget(self, number: int, after_step: int | None = None) -> None:
        after = -1 if after_step is None else after_step
        self.seen = [r for r in self.seen if r.number != number or r.step <= after]


def a_table(target: int = 3, policy: Policy = Policy(), scheduler: Scheduler | None = None) -> TrialTable:  # noqa: B008
    history = History(Space(x=Float(0.0, 1.0)), Goal.parse("maximize accuracy"))
    table = TrialTable(history, scheduler or StopsBelow(), policy)
    table.handle(ev.Opened(target))
    return table


def suggest(table: TrialTable, number: int) -> list[Any]:
    return table.handle(ev.Suggested(number, {"x": 0.5}, {}))


def run(table: TrialTable, number: int) -> None:
    suggest(table, number)
    table.handle(ev.Launched(number, "w0", "cpu"))


def failure(kind: FailureClass = FailureClass.USER, line: int = 3) -> dict[str, str | int]:
    return Failure(kind, "boom", "ValueError", "train.py", line).to_json()


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


def save_checkpoint(table: TrialTable, number: int, step: int, path: str = "", accuracy: float = 0.7) -> list[Any]:
    path = path or f"{number}/{step}"
    return table.handle(ev.Checkpointed(number, step, path, "sha", 10, {"accuracy": accuracy}, step))


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


@st.composite
def _stories(draw: st.DrawFn) -> list[tuple[str, int]]:
    verbs = st.sampled_from([
        "next", "report", "low", "return", "nan", "quit", "fail", "lose", "give", "open", "save", "save", "back",
        "preempt", "hang", "oom",
    ])
    return draw(st.lists(st.tuples(verbs, st.integers(0, 3)), max_size=80))


def _play(
    story: list[tuple[str, int]], scheduler: Scheduler | None = None, keep: str = "best"
) -> tuple[TrialTable, list[Any]]:
    """Lets a story happen to a table; returns it and the log of its events."""
    policy = Policy(retries=1, max_losses=2, breaker=3, halvings=1, keep_checkpoints=keep)
    table = a_table(target=8, policy=policy, scheduler=scheduler)
    log: list[Any] = [ev.Opened(8)]

    def happen(event: Any) -> None:
        log.append(event)
        commands = table.handle(event)
        table.check()
        for command in commands:
            if isinstance(command, cmd.Decide) and command.decision.action is not GO_ON:
                happen(ev.Judged(command.number, command.decision.reason, command.decision.action))

    for verb, pick in story:
        running = [n for n, t in table.live.items() if t.state is TrialState.RUNNING]
        if verb == "next":
            command = table.next()
            if isinstance(command, cmd.Suggest):
                happen(ev.Suggested(command.number, {"x": 0.5}, {}))
            elif isinstance(command, cmd.Launch):
                happen(ev.Launched(command.number, "w", "cpu"))
        elif verb == "open":
            happen(ev.Opened(8))
        elif verb == "back" and running:
            trial = table.live[running[pick % len(running)]]
            if trial.checkpoints and trial.attempt > 1:
                steps = [None, *(c.step for c in trial.checkpoints)]
                happen(ev.Restored(trial.number, steps[pick % len(steps)], []))
        elif running:
            number = running[pick % len(running)]
            trial = table.live[number]
            value = {"low": 0.1, "nan": math.nan}.get(verb, 0.8)
            happen({
                "report": ev.Reported(number, pick, {"accuracy": value}),
                "low": ev.Reported(number, pick, {"accuracy": value}),
                "save": ev.Checkpointed(
                    number, pick, f"{number}/{pick}/{len(log)}", "", 1, dict(trial.metrics), trial.step
                ),
                "return": ev.Returned(number, {"accuracy": value}, pick),
                "nan": ev.Returned(number, {"accuracy": value}),
                "quit": ev.Quit(number, "x"), "fail": ev.Failed(number, failure(line=pick)),
                "lose": ev.Lost(number, "x"), "give": ev.GivenBack(number), "preempt": ev.Preempted(number, "x"),
                "hang": ev.Failed(number, failure(FailureClass.HUNG)),
                "oom": ev.Failed(number, failure(FailureClass.OOM)),
            }[verb])
    return table, log


@settings(max_examples=200, deadline=None)
@given(_stories())
def test_invariants_hold_and_a_replay_gives_the_same_table(story: list[tuple[str, int]]) -> None:
    table, log = _play(story)
    again = TrialTable(
        History(Space(x=Float(0.0, 1.0)), Goal.parse("maximize accuracy")), StopsBelow(),
        Policy(retries=1, max_losses=2, breaker=3, halvings=1),
    )
    for event in log:
        again.handle(event)
        again.check()
    assert again.live == table.live
    assert again.counts == table.counts
    assert (again.aborted, again.roster.exhausted, again.roster.next_number) == (
        table.aborted, table.roster.exhausted, table.roster.next_number)
    assert list(map(repr, again.history.finished())) == list(map(repr, table.history.finished()))


@settings(max_examples=200, deadline=None)
@given(_stories())
def test_a_log_without_reports_gives_the_same_table_once_it_is_opened_again(story: list[tuple[str, int]]) -> None:
    """Where no scheduler watches, a replay reads no reports: what goes on from a checkpoint is known all the same."""
    policy = Policy(retries=1, max_losses=2, breaker=3, halvings=1)
    table, log = _play(story, NoScheduler())
    again = TrialTable(History(Space(x=Float(0.0, 1.0)), Goal.parse("maximize accuracy")), NoScheduler(), policy)
    for event in log:
        if not isinstance(event, ev.Reported):
            again.handle(event)
    assert again.handle(ev.Opened(8)) == table.handle(ev.Opened(8))
    assert again.live == table.live


@settings(max_examples=200, deadline=None)
@given(_stories(), st.sampled_from(["best", "2", "all", "none"]))
def test_every_checkpoint_is_there_until_it_is_discarded_and_then_never_asked_for(
    story: list[tuple[str, int]], rule: str
) -> None:
    table, log = _play(story, keep=rule)
    again = TrialTable(
        History(Space(x=Float(0.0, 1.0)), Goal.parse("maximize accuracy")), StopsBelow(),
        Policy(retries=1, max_losses=2, breaker=3, halvings=1, keep_checkpoints=rule),
    )
    files: set[str] = set()
    for event in log:
        if isinstance(event, ev.Checkpointed):
            files.add(event.path)
        for command in again.handle(event):
            if isinstance(command, cmd.Discard):
                files.remove(command.path)
        wanted = [c.path for trial in again.live.values() for c in trial.checkpoints]
        assert files.issuperset(wanted)
        assert len(wanted) <= 2 * len(again.live)
    finished = len(files) - len(wanted) if log else 0
    completed = table.counts[TrialState.COMPLETED]
    assert finished <= {"best": min(1, completed), "2": min(2, completed), "none": 0, "all": table.num_finished}[rule]
