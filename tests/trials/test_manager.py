"""The controller and the manager: a study from its first event to its last, over a log in memory."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Sequence

import pytest

from tests.support.fakes import MemoryLog, ScriptedExecutor
from velodrome.clock import FakeClock
from velodrome.errors import ObjectiveError, StoreFullError
from velodrome.records import StudyRow
from velodrome.resources.slots import Slot
from velodrome.search.domains import Choice, Float
from velodrome.search.history import History
from velodrome.search.registry import make_sampler, make_scheduler
from velodrome.search.space import Space
from velodrome.trials import events as ev
from velodrome.trials.controller import Controller
from velodrome.trials.executor import Host, Job, StudyContext
from velodrome.trials.manager import Manager, Outcome, Progress
from velodrome.trials.policy import Policy
from velodrome.trials.share import Allowance
from velodrome.trials.table import TrialTable
from velodrome.types import Failure, FailureClass, Goal, TrialState

SPACE = Space(x=Float(0.0, 1.0))
CONTEXT = StudyContext("s", ("value",), False, "")
ROW = StudyRow(1, "s", "running", "minimize value", 7, 5, "random", "none", "{}", "", "{}", 0.0)


def a_controller(
    log: MemoryLog, *, space: Space = SPACE, sampler: str = "random", scheduler: str = "none",
    clock: FakeClock | None = None,
) -> Controller:
    goal = Goal.parse(ROW.goal)
    table = TrialTable(History(space, goal), make_scheduler(scheduler, goal), Policy())
    return Controller(ROW, table, make_sampler(sampler, seed=ROW.seed), log, clock or FakeClock(100.0))


def returns_x(host: Host, job: Job) -> None:
    host.happened(ev.Returned(job.number, {"value": float(job.params["x"] or 0)}))


def run(log: MemoryLog, script: object = returns_x, target: int = 5, **kwargs: object) -> Outcome:
    controller = a_controller(log)
    executor = ScriptedExecutor(script)  # type: ignore[arg-type]  # the tests' scripts are plain functions
    outcome = Manager(controller, executor, CONTEXT, target=target, **kwargs).run()  # type: ignore[arg-type]  # likewise
    assert executor.closed
    return outcome


def test_a_study_runs_to_its_end_and_all_of_it_is_in_the_log() -> None:
    log = MemoryLog()
    assert run(log) == Outcome("finished", "")
    assert [row.state for row in log.trials.values()] == ["completed"] * 5
    assert [row.kind for row in log.events] == ["opened", *["suggested", "launched", "returned"] * 5, "closed"]
    assert [row.seq for row in log.events] == list(range(1, 18))
    assert log.study["state"] == "finished"
    assert all(row.value == log.param_values[row.id]["x"] == row.score for row in log.trials.values())


def test_the_same_seed_gives_the_same_log() -> None:
    first, second = MemoryLog(), MemoryLog()
    run(first)
    run(second)
    assert first.events == second.events


def test_a_replayed_log_gives_the_same_table_and_goes_on() -> None:
    log = MemoryLog()
    run(log, target=3)
    again = a_controller(log)
    again.replay(iter(log.events))
    again.journal.seq = log.events[-1].seq
    assert again.table.num_finished == 3
    assert again.best == min(((n, r.value) for n, r in log.trials.items()), key=lambda pair: pair[1])  # type: ignore[arg-type]  # all have values
    Manager(again, ScriptedExecutor(returns_x), CONTEXT, target=5).run()
    straight = MemoryLog()
    run(straight, target=5)
    assert [log.trials[n].value for n in range(5)] == [straight.trials[n].value for n in range(5)]
    assert [row.seq for row in log.events] == list(range(1, len(log.events) + 1))


def test_a_trial_keeps_the_time_of_its_suggestion_over_a_resume() -> None:
    log, clock = MemoryLog(), FakeClock(100.0)
    controller = a_controller(log, clock=clock)
    controller.happened(ev.Opened(1))
    launch = controller.next()
    assert launch is not None
    controller.happened(ev.Launched(0, "w", "cpu"))
    controller.commit()
    later = FakeClock(500.0)
    again = a_controller(log, clock=later)
    again.replay(iter(log.events))
    Manager(again, ScriptedExecutor(returns_x), CONTEXT, target=1).run()
    assert (log.trials[0].created_at, log.trials[0].started_at, log.trials[0].attempt) == (100.0, 500.0, 2)


def test_reports_wait_for_the_commit_and_need_no_fsync() -> None:
    log, clock = MemoryLog(), FakeClock()
    controller = a_controller(log, clock=clock)
    controller.happened(ev.Opened(1))
    controller.next()
    controller.happened(ev.Launched(0, "w", "cpu"))
    controller.commit()
    controller.happened(ev.Reported(0, 1, {"value": 0.5, "loss": math.nan}))
    controller.commit(only_if_due=True)
    assert log.metric_rows == []
    clock.advance(1.0)
    controller.commit(only_if_due=True)
    assert [(r.name, r.step, r.seq) for r in log.metric_rows] == [("value", 1, 4), ("loss", 1, 4)]
    assert log.durable == [True, False]


def test_the_last_report_is_the_result_of_an_objective_that_returns_none() -> None:
    log = MemoryLog()

    def script(host: Host, job: Job) -> None:
        host.happened(ev.Reported(job.number, 3, {"value": 0.25, "loss": 1.0}))
        host.happened(ev.Returned(job.number, {}))

    run(log, script, target=1)
    assert (log.trials[0].value, json.loads(log.trials[0].metrics)) == (0.25, {"value": 0.25, "loss": 1.0})
    returned = next(row for row in log.events if row.kind == "returned")
    assert json.loads(returned.data) == [{"value": 0.25, "loss": 1.0}, 3], "the log stands without its reports"


def test_figures_that_are_not_finite_are_valid_json_for_sqlite_and_survive_a_replay() -> None:
    log = MemoryLog()

    def script(host: Host, job: Job) -> None:
        host.happened(ev.Returned(job.number, {"value": math.nan, "loss": -math.inf, "other": math.inf}))

    run(log, script, target=1)
    assert log.trials[0].metrics == '{"value":null,"loss":-1e999,"other":1e999}'
    assert log.trials[0].failure_class == "diverged"
    again = a_controller(log)
    again.replay(iter(log.events))
    assert again.table.counts[TrialState.FAILED] == 1


def test_no_trial_starts_from_a_configuration_that_was_tried_where_another_is_left() -> None:
    log = MemoryLog()
    space = Space(a=Choice(*range(4)), b=Choice("x", "y"))
    controller = a_controller(log, space=space)
    script = ScriptedExecutor(lambda host, job: host.happened(ev.Returned(job.number, {"value": 1.0})))
    Manager(controller, script, CONTEXT, target=10).run()
    tried = [tuple(sorted(params.items())) for params in log.param_values.values()]
    assert len(set(tried[:8])) == 8
    assert [d.action for d in log.decisions] == ["duplicate"] * 2, "the last two had no other"


def test_a_grid_that_is_walked_ends_the_study() -> None:
    log = MemoryLog()
    controller = a_controller(log, space=Space(a=Choice(1, 2, 3)), sampler="grid")
    script = ScriptedExecutor(lambda host, job: host.happened(ev.Returned(job.number, {"value": 1.0})))
    outcome = Manager(controller, script, CONTEXT, target=10).run()
    assert outcome.state == "finished"
    assert outcome.note
    assert len(log.trials) == 3


def test_a_scheduler_stops_trials_and_its_reasons_are_kept() -> None:
    log = MemoryLog()
    controller = a_controller(log, scheduler="asha:min_steps=1,reduction=2,type=stop")
    verdicts: list[bool] = []

    def script(host: Host, job: Job) -> None:
        host.happened(ev.Reported(job.number, 1, {"value": float(job.number)}))
        verdicts.append(host.should_stop(job.number))
        host.happened(ev.Returned(job.number, {"value": float(job.number)}))

    executor = ScriptedExecutor(script)
    Manager(controller, executor, CONTEXT, target=5).run()
    assert True in verdicts
    assert executor.stopped == [n for n, stop in enumerate(verdicts) if stop]
    assert [row.state for row in log.trials.values()] == ["pruned" if stop else "completed" for stop in verdicts]
    assert all(row.reason for row in log.trials.values() if row.state == "pruned")
    assert {row.action for row in log.decisions} == {"stop", "continue"}


def test_what_is_not_finished_is_given_back_when_time_is_up() -> None:
    log, clock = MemoryLog(), FakeClock()
    controller = a_controller(log, clock=clock)

    class Slow(ScriptedExecutor):
        def poll(self, timeout_s: float) -> None:
            clock.advance(timeout_s)

    outcome = Manager(controller, Slow(returns_x), CONTEXT, target=5, timeout_s=1.0).run()
    assert outcome.state == "stopped"
    assert log.trials[0].state == "waiting"
    assert clock.now() == pytest.approx(1.0), "and not later than it was up"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_loop_in_order(signum: signal.Signals) -> None:
    log = MemoryLog()

    def script(host: Host, job: Job) -> None:
        if job.number == 2:
            os.kill(os.getpid(), signum)
            host.happened(ev.GivenBack(job.number))
        else:
            returns_x(host, job)

    before = signal.getsignal(signum)
    outcome = run(log, script)
    assert (outcome.state, outcome.signum) == ("stopped", signum)
    assert [row.state for row in log.trials.values()] == ["completed", "completed", "waiting"]
    assert signal.getsignal(signum) is before


def test_ctrl_c_is_raised_inside_an_objective_that_runs_here() -> None:
    log = MemoryLog()
    raised: list[bool] = []

    def script(host: Host, job: Job) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
        except KeyboardInterrupt:
            raised.append(True)
            raise

    controller = a_controller(log)
    executor = ScriptedExecutor(script)
    executor.runs_here = True
    outcome = Manager(controller, executor, CONTEXT, target=5).run()
    assert raised == [True]
    assert outcome.signum == signal.SIGINT


def test_a_study_whose_first_trials_fail_alike_stops() -> None:
    log = MemoryLog()
    failure = Failure(FailureClass.USER, "boom", "ValueError", "train.py", 3).to_json()
    outcome = run(log, lambda host, job: host.happened(ev.Failed(job.number, failure)), target=50)
    assert outcome.state == "failed"
    assert "first 5 trials all failed in the same way: boom" in outcome.note
    assert len(log.trials) == 5


def test_a_full_store_pauses_the_study_and_loses_nothing_when_there_is_room_again() -> None:
    log, clock = MemoryLog(), FakeClock()
    controller = a_controller(log, clock=clock)
    notes: list[str] = []

    class Timed(ScriptedExecutor):
        polls = 0

        def poll(self, timeout_s: float) -> None:
            self.polls += 1
            clock.advance(timeout_s)
            log.is_full = 2 <= self.polls < 20
            super().poll(timeout_s)

    def note(progress: Progress) -> None:
        notes.append(progress.note)

    outcome = Manager(controller, Timed(returns_x), CONTEXT, target=5, on_progress=note).run()
    assert outcome.state == "finished"
    assert len(log.trials) == 5
    assert any(notes)
    assert [row.seq for row in log.events] == list(range(1, 18)), "written once"


def test_a_store_that_stays_full_stops_the_study_with_the_error() -> None:
    log, clock = MemoryLog(), FakeClock()
    controller = a_controller(log, clock=clock)

    class Timed(ScriptedExecutor):
        def poll(self, timeout_s: float) -> None:
            clock.advance(timeout_s)
            log.is_full = True
            super().poll(timeout_s)

    executor = Timed(returns_x)
    with pytest.raises(StoreFullError):
        Manager(controller, executor, CONTEXT, target=5).run()
    assert executor.closed
    assert clock.now() >= 10.0


def test_an_error_of_the_executor_leaves_a_study_that_can_be_resumed() -> None:
    log = MemoryLog()

    def script(host: Host, job: Job) -> None:
        if job.number == 2:
            raise ObjectiveError("The objective's file is gone")
        returns_x(host, job)

    controller = a_controller(log)
    with pytest.raises(ObjectiveError, match="is gone"):
        Manager(controller, ScriptedExecutor(script), CONTEXT, target=5).run()
    assert [row.state for row in log.trials.values()][:2] == ["completed", "completed"]
    assert log.study["state"] == "stopped"
    assert "is gone" in log.study["note"]


def test_a_checkpoint_is_deleted_only_when_the_log_knows_that_it_is_not_needed() -> None:
    log, clock = MemoryLog(), FakeClock()
    controller = a_controller(log, clock=clock)
    deleted: list[str] = []
    controller.journal.on_discard = deleted.append
    controller.happened(ev.Opened(1))
    controller.next()
    controller.happened(ev.Launched(0, "w", "cpu"))
    for step in range(1, 4):
        controller.happened(ev.Checkpointed(0, step, f"s/{step}", "sha", 10))
    log.is_full = True
    with pytest.raises(StoreFullError):
        controller.commit()
    assert deleted == []
    log.is_full = False
    controller.commit()
    assert deleted == ["s/1"]
    assert [(row.step, row.path) for row in log.checkpoints] == [(2, "s/2"), (3, "s/3")]
    controller.happened(ev.Returned(0, {"value": 0.5}))
    assert deleted == ["s/1"]
    controller.commit()
    assert deleted == ["s/1", "s/2"]
    assert [row.path for row in log.checkpoints] == ["s/3"], "the best trial keeps its last"


def test_a_trial_goes_on_from_its_checkpoint_after_a_resume_and_a_damaged_one_is_a_decision() -> None:
    log = MemoryLog()
    jobs: list[Job] = []

    def first(host: Host, job: Job) -> None:
        for step in (1, 2, 3):
            host.happened(ev.Reported(job.number, step, {"value": step / 10, "loss": math.inf}))
            if step < 3:
                host.happened(ev.Checkpointed(job.number, step, f"s/{step}", "sha", 10))
        host.happened(ev.GivenBack(job.number))
        os.kill(os.getpid(), signal.SIGTERM)

    def second(host: Host, job: Job) -> None:
        jobs.append(job)
        host.happened(ev.Restored(job.number, 1, ["the checkpoint of step 2 is damaged: oh"]))
        host.happened(ev.Returned(job.number, {}))

    run(log, first, target=1)
    assert [row.step for row in log.metric_rows if row.name == "value"] == [1, 2]
    again = a_controller(log)
    again.replay(iter(log.events))
    again.journal.seq = log.events[-1].seq
    deleted: list[str] = []
    again.journal.on_discard = deleted.append
    Manager(again, ScriptedExecutor(second), CONTEXT, target=1).run()
    assert [(c.step, c.path) for c in jobs[0].checkpoints] == [(2, "s/2"), (1, "s/1")]
    assert [row.step for row in log.metric_rows if row.name == "value"] == [1]
    assert (log.trials[0].value, json.loads(log.trials[0].metrics)) == (0.1, {"value": 0.1, "loss": math.inf})
    [decision] = log.decisions
    assert (decision.by, decision.action) == ("manager", "skip checkpoint")
    assert decision.reason == "the checkpoint of step 2 is damaged: oh; went on from that of step 1"
    assert deleted == ["s/2"]


def test_a_define_by_run_trial_gets_its_parameters_one_by_one() -> None:
    log = MemoryLog()
    controller = a_controller(log, space=Space())
    domain = Float(0.0, 2.0).to_json()
    seen: list[tuple[float, float]] = []

    def script(host: Host, job: Job) -> None:
        first = host.suggest(job.number, "x", domain)
        again = host.suggest(job.number, "x", domain)
        seen.append((float(first or 0), float(again or 0)))
        host.happened(ev.Returned(job.number, {"value": float(first or 0)}))

    Manager(controller, ScriptedExecutor(script), CONTEXT, target=3).run()
    assert all(first == again for first, again in seen)
    assert len({first for first, _ in seen}) == 3
    assert [p["x"] for p in log.param_values.values()] == [first for first, _ in seen]
    replayed = a_controller(log, space=Space())
    replayed.replay(iter(log.events))
    assert [t.params for t in replayed.table.history.finished()] == [{"x": first} for first, _ in seen]


class Shared:
    """A share that goes by a list: what may be held at the first look, the second, and so on; the last for good."""

    def __init__(self, *allowances: Allowance) -> None:
        self._allowances = list(allowances)
        self.asked: list[tuple[int, int]] = []

    def adjust(self, held: Sequence[Slot], wanted: int, gpu_peak_bytes: int = 0) -> Allowance:
        self.asked.append((len(held), wanted))
        return self._allowances.pop(0) if len(self._allowances) > 1 else self._allowances[0]


def test_a_study_holds_what_it_may_and_says_why() -> None:
    log, clock = MemoryLog(), FakeClock()
    share = Shared(
        Allowance((Slot(0), Slot(1)), "all is free"), *[Allowance((), "bob has come", 1.0, 2.0)] * 3,
        Allowance((Slot(1),), "bob has gone"),
    )
    seen: list[tuple[int, str]] = []

    def script(host: Host, job: Job) -> None:
        clock.advance(0.05)
        returns_x(host, job)

    executor = ScriptedExecutor(script)
    poll = executor.poll

    def passing(timeout_s: float) -> None:
        clock.advance(0.05)
        poll(timeout_s)

    executor.poll = passing  # type: ignore[method-assign]  # time must pass where nothing runs
    manager = Manager(
        a_controller(log, clock=clock), executor, CONTEXT, target=8, share=share,
        on_progress=lambda p: seen.append((p.finished, p.note)),
    )
    assert manager.run() == Outcome("finished", "")
    assert executor.resized == [
        (2, "all is free", 0.0, 30.0), (0, "bob has come", 1.0, 2.0), (1, "bob has gone", 0.0, 30.0)
    ]
    assert [(d.by, d.action, d.reason) for d in log.decisions] == [
        ("resources", "resize", "2 workers: all is free"), ("resources", "resize", "0 workers: bob has come"),
        ("resources", "resize", "1 worker: bob has gone"),
    ]
    assert "waiting for a place: bob has come" in [note for _, note in seen]
    assert share.asked[0] == (1, 8), "before the first trial is launched"
    assert share.asked[1][0] == 2


def test_a_slot_that_nobody_uses_any_more_is_not_kept_until_the_next_look() -> None:
    share, clock = Shared(Allowance((Slot(0), Slot(1)))), FakeClock()
    looks: list[int] = []

    def script(host: Host, job: Job) -> None:
        looks.append(len(share.asked))
        if job.number == 3:
            del executor.slots[1:]  # the process of a worker that was seen off is gone
        returns_x(host, job)

    executor = ScriptedExecutor(script, places=2)
    Manager(a_controller(MemoryLog(), clock=clock), executor, CONTEXT, target=8, share=share).run()
    assert looks == [1, 1, 1, 1, 2, 2, 2, 2], "the clock stands still: nothing is due"
    assert [held for held, _ in share.asked[:2]] == [2, 1]


def test_a_study_that_waits_for_a_slot_looks_more_often() -> None:
    asked = {}
    for every_s in (0.2, 0.05):
        share, clock = Shared(Allowance((Slot(0), Slot(1)), look_in_s=every_s)), FakeClock()

        def script(host: Host, job: Job, clock: FakeClock = clock) -> None:
            clock.advance(0.06)
            returns_x(host, job)

        Manager(a_controller(MemoryLog(), clock=clock), ScriptedExecutor(script), CONTEXT, target=8, share=share).run()
        asked[every_s] = len(share.asked)
    assert asked[0.05] >= 2 * asked[0.2]


def test_a_trial_that_hangs_is_abandoned_and_fails_at_last() -> None:
    log, clock = MemoryLog(), FakeClock()
    executor = ScriptedExecutor(lambda _host, _job: None)

    def passing(_timeout_s: float) -> None:
        clock.advance(0.5)

    executor.poll = passing  # type: ignore[method-assign]  # nothing is ever heard of a trial
    executor.room = lambda: 1 - controller.table.counts[TrialState.RUNNING]  # type: ignore[method-assign]  # one place
    controller = a_controller(log, clock=clock)
    Manager(controller, executor, CONTEXT, target=1, hung_after_s=10.0).run()
    [row] = log.trials.values()
    assert (row.state, row.failure_class, row.attempt) == ("failed", "hung", 3)
    assert row.failure is not None
    assert "nothing was heard of it for 10.5 s; the limit is 10 s, as given" in row.failure
    assert 30.0 < clock.now() < 40.0


def test_what_a_trial_notes_is_a_decision() -> None:
    log = MemoryLog()

    def script(host: Host, job: Job) -> None:
        host.happened(ev.Noted(job.number, "rl", "precision", "bfloat16: twice as fast here"))
        returns_x(host, job)

    run(log, script, target=1)
    [decision] = log.decisions
    assert (decision.by, decision.action, decision.reason) == ("rl", "precision", "bfloat16: twice as fast here")
    assert decision.trial_id == log.trials[0].id


def test_nothing_is_launched_on_a_place_that_the_study_does_not_have_yet() -> None:
    log, clock = MemoryLog(), FakeClock()
    share = Shared(Allowance((), "all is taken"), Allowance((), "all is taken"), Allowance((Slot(0),), "bob has gone"))

    def script(host: Host, job: Job) -> None:
        assert executor.slots
        returns_x(host, job)

    executor = ScriptedExecutor(script)
    poll = executor.poll

    def passing(timeout_s: float) -> None:
        clock.advance(0.2)
        poll(timeout_s)

    executor.poll = passing  # type: ignore[method-assign]  # time must pass where nothing runs
    outcome = Manager(a_controller(log, clock=clock), executor, CONTEXT, target=2, share=share).run()
    assert outcome == Outcome("finished", "")
    assert [row.at for row in log.events if row.kind == "launched"] == pytest.approx([0.4, 0.6])
