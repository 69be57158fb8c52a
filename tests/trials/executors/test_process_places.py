"""The process executor: places that come and go while a study runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.campaign import wait_for
from tests.support.processes import SLEEP, ProcessTests, is_gone, processes, worker
from velodrome.resources.slots import Slot
from velodrome.trials import preemption
from velodrome.trials.events import Checkpointed, Failed, GivenBack, Preempted, Reported, Returned


@pytest.fixture
def _quick_to_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL comes soon after SIGTERM."""
    monkeypatch.setattr(preemption, "KILL_AFTER_S", 0.3)


class TestPlaces(ProcessTests):
    @pytest.mark.usefixtures("_quick_to_kill")
    def test_a_preempted_trial_that_pays_no_heed_is_ended_with_its_group(self, tmp_path: Path) -> None:
        body = """
            import signal, subprocess, time
            if trial.number: return 1.0
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen(["sleep", "600"])
            trial.report(child.pid, score=0.0)
            time.sleep(600)
        """
        with self.running(tmp_path, body) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.events))
            first, before = running.host.events[0], worker(running)
            assert isinstance(first, Reported)
            running.executor.preempt(0, "bob has come", 0.1)
            running.until(lambda: len(running.host.events) == 2)
            assert running.host.ending(0) == Preempted(0, "bob has come")
            wait_for(lambda: is_gone(first.step) and is_gone(before))
            assert running.run(1) == Returned(1, {"score": 1.0}), "the slot is still its own: another worker has it"

    def test_sigterm_gives_a_trial_the_chance_to_save_itself(self, tmp_path: Path) -> None:
        body = """
            import signal, time
            def save(*_):
                trial.checkpoint(1, "saved")
            signal.signal(signal.SIGTERM, save)
            trial.report(0, score=0.0)
            while True: time.sleep(0.01)
        """
        with self.running(tmp_path, body) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.events))
            running.executor.preempt(0, "bob has come", 0.05)
            running.until(lambda: len(running.host.events) == 3)
            assert isinstance(running.host.events[1], Checkpointed)
            assert running.host.ending(0) == Preempted(0, "bob has come")

    @pytest.mark.usefixtures("_quick_to_kill")
    def test_a_stopped_worker_is_preempted_as_well(self, tmp_path: Path) -> None:
        with self.running(tmp_path, SLEEP) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.events))
            os.kill(worker(running), signal.SIGSTOP)
            running.executor.preempt(0, "bob has come", 0.05)
            running.until(lambda: len(running.host.events) == 2)
            assert running.host.ending(0) == Preempted(0, "bob has come")

    def test_a_study_grows_and_shrinks(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "if trial.number < 9: return 1.0\n" + SLEEP) as running:
            executor = processes(running)
            slots = [Slot(index) for index in range(3)]
            running.run(0)
            executor.resize(slots, "all is free", 60.0, 60.0)
            running.until(lambda: len(executor.pids()) == 3)
            assert executor.held() == slots
            running.launch(9)
            running.until(lambda: bool(running.host.of(9)))
            [busy] = [w.slot for w in executor._workers if w.jobs]
            executor.resize([], "bob has come", 60.0, 60.0)
            running.until(lambda: executor.held() == [busy])
            assert executor.room() == 0, "the idle ones are gone, the busy one takes nothing more"
            executor.resize([busy], "bob has gone", 60.0, 60.0)
            executor.resize([slots[1]], "bob is back, in a hurry", 0.0, 0.05)
            running.until(lambda: any(isinstance(e, Preempted) for e in running.host.of(9)))
            assert running.host.ending(9) == Preempted(9, "bob is back, in a hurry")
            running.until(lambda: executor.held() == [slots[1]])
            assert running.run(1) == Returned(1, {"score": 1.0})

    def test_a_busy_worker_leaves_after_its_trial(self, tmp_path: Path) -> None:
        body = "import time\ntrial.report(0, score=0.0)\ntime.sleep(0.2)\nreturn 1.0"
        with self.running(tmp_path, body) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.events))
            pid = worker(running)
            running.executor.resize([], "bob has come", 60.0, 60.0)
            running.until(lambda: running.executor.held() == [])
            assert running.host.ending(0) == Returned(0, {"score": 1.0})
            wait_for(lambda: is_gone(pid))

    def test_a_worker_that_is_not_needed_before_it_is_ready_is_no_failed_start(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "return 1.0") as running:
            slots = [Slot(index) for index in range(2)]
            for _ in range(5):
                running.executor.resize(slots, "", 0.0, 0.0)
                running.executor.resize(slots[:1], "", 0.0, 0.0)
            running.until(lambda: running.executor.held() == slots[:1])
            assert running.run(0) == Returned(0, {"score": 1.0})

    def test_an_abandoned_trial_ends_as_it_is_said_and_what_waits_behind_it_is_given_back(self, tmp_path: Path) -> None:
        body = "if trial.number < 2: return 1.0\n" + SLEEP
        end = Failed(2, {"kind": "hung"})
        with self.running(tmp_path, body) as running:
            running.run(0)
            running.run(1)
            for number in (2, 3):
                running.launch(number)
            os.kill(worker(running), signal.SIGSTOP)
            running.executor.poll(0)
            running.executor.abandon(3, Failed(3, {"kind": "hung"}))
            running.executor.abandon(2, end)
            running.until(lambda: len([e for e in running.host.events if not isinstance(e, Reported)]) == 4)
            assert running.host.ending(2) == end
            assert running.host.ending(3) == GivenBack(3, ran=False)
