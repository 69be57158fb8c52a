"""The manager: what ends a study before its trials are done, and what is left for a resume."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.fakes import MemoryLog, ScriptedExecutor
from tests.trials.managed import CONTEXT, a_controller, returns_x, run
from velodrome.clock import FakeClock
from velodrome.errors import ObjectiveError, StoreFullError
from velodrome.trials import events as ev
from velodrome.trials.executor import Host, Job
from velodrome.trials.manager import Manager, Progress
from velodrome.types import Failure, FailureClass


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
