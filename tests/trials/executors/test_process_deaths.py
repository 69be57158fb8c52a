"""The process executor: every way in which processes die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.campaign import wait_for
from tests.support.processes import SLEEP, ProcessTests, is_gone, processes, worker
from velodrome.errors import ObjectiveError
from velodrome.trials.events import GivenBack, Lost, Reported, Returned
from velodrome.trials.objective import ObjectiveSource


class TestDeaths(ProcessTests):
    @pytest.mark.parametrize(("body", "kind", "words", "code"), [
        ("import ctypes\nctypes.string_at(0)", "user", "a segmentation fault, SIGSEGV", "ctypes.string_at(0)"),
        ("import os\nos.abort()", "user", "an abort, SIGABRT", "os.abort()"),
        ("import os\nos._exit(3)", "user", "ended its own process with exit status 3", "os._exit(3)"),
        ("import os\nos._exit(0)", "user", "ended its own process with exit status 0", "os._exit(0)"),
    ])
    def test_a_trial_that_ends_its_process_fails_with_its_line(
        self, tmp_path: Path, body: str, kind: str, words: str, code: str
    ) -> None:
        with self.running(tmp_path, "if trial.number == 1: return 1.0\n" + body) as running:
            failure = running.failure(0)
            assert failure.kind == kind
            assert words in failure.message
            assert failure.file == str(tmp_path / "objective.py")
            assert failure.code == code
            assert running.run(1) == Returned(1, {"score": 1.0})

    def test_memory_beyond_the_slots_limit_is_oom_and_the_worker_is_replaced(self, tmp_path: Path) -> None:
        body = "if trial.number == 1: return 1.0\nhoard = []\nwhile True: hoard.append(bytearray(16 << 20))"
        with self.running(tmp_path, body, memory_bytes=512 << 20) as running:
            before = worker(running)
            failure = running.failure(0)
            assert failure.kind == "oom"
            assert failure.code == "while True: hoard.append(bytearray(16 << 20))"
            assert running.run(1) == Returned(1, {"score": 1.0})
            assert worker(running) != before

    @pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
    def test_a_worker_ended_from_outside_loses_its_trial(self, tmp_path: Path, signum: signal.Signals) -> None:
        with self.running(tmp_path, "if trial.number: return 1.0\n" + SLEEP) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.events))
            os.kill(worker(running), signum)
            running.until(lambda: len(running.host.events) == 2)
            assert running.host.ending(0) == Lost(0, f"the worker was ended from outside by {signum.name}")
            assert running.run(1) == Returned(1, {"score": 1.0})

    def test_only_the_running_trial_is_lost(self, tmp_path: Path) -> None:
        """Trials behind it in the pipe are given back, whether or not the worker has seen them."""
        body = "if trial.number < 2: return 1.0\n" + SLEEP
        with self.running(tmp_path, body) as running:
            running.run(0)
            running.run(1)
            for number in (2, 3, 4):
                running.launch(number)
            os.kill(worker(running), signal.SIGSTOP)
            running.executor.poll(0)
            os.kill(worker(running), signal.SIGKILL)
            running.until(lambda: len([e for e in running.host.events if not isinstance(e, Reported)]) == 5)
            assert isinstance(running.host.ending(2), Lost)
            given_back = [GivenBack(3, ran=False), GivenBack(4, ran=False)]
            assert [running.host.ending(3), running.host.ending(4)] == given_back

    def test_what_a_trial_leaves_behind_dies_with_its_worker(self, tmp_path: Path) -> None:
        body = """
            import subprocess, time
            child = subprocess.Popen(["sleep", "600"])
            trial.report(child.pid, score=0.0)
            time.sleep(600)
        """
        with self.running(tmp_path, body) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.events))
            first = running.host.events[0]
            assert isinstance(first, Reported)
            os.kill(worker(running), signal.SIGKILL)
            running.until(lambda: len(running.host.events) == 2)
            wait_for(lambda: is_gone(first.step))
            running.launch(1)
            running.until(lambda: len(running.host.events) == 3)
            second = running.host.events[2]
            assert isinstance(second, Reported)
            running.executor.close()
            wait_for(lambda: is_gone(second.step))

    def test_a_dead_launcher_is_replaced_and_its_trials_are_lost(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "if trial.number: return 1.0\n" + SLEEP, workers=2) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.events) and len(processes(running).pids()) == 2)
            before = processes(running).pids()
            os.kill(processes(running).launcher_pid, signal.SIGKILL)
            running.until(lambda: len(running.host.events) == 2)
            assert isinstance(running.host.ending(0), Lost)
            wait_for(lambda: all(map(is_gone, before)))
            assert running.run(1) == Returned(1, {"score": 1.0})

    def test_a_worker_that_dies_while_it_loads_is_an_error(self, tmp_path: Path) -> None:
        file = tmp_path / "dies.py"
        file.write_text("import ctypes\nctypes.string_at(0)\ndef train(trial): return 1.0\n")
        executor = self.make(ObjectiveSource.of(str(file)))
        try:
            with pytest.raises(ObjectiveError, match="a segmentation fault") as caught:
                executor.describe()
        finally:
            executor.close()
        assert f"{file}:2" in caught.value.given

    def test_close_leaves_no_process(self, tmp_path: Path) -> None:
        with self.running(tmp_path, SLEEP, workers=2) as running:
            running.launch(0)
            running.launch(1)
            running.until(lambda: len(running.host.events) == 2)
            pids = [*processes(running).pids(), processes(running).launcher_pid]
        assert len(pids) == 3
        wait_for(lambda: all(map(is_gone, pids)))

    def test_a_killed_controller_leaves_no_process(self, tmp_path: Path) -> None:
        """Not its workers, not a worker stuck in a trial, not what that trial started."""
        script = tmp_path / "controller.py"
        script.write_text(textwrap.dedent("""
            import os, sys, subprocess, time
            from velodrome.resources.slots import Slot
            from velodrome.trials.executor import Job, StudyContext
            from velodrome.trials.objective import ObjectiveSource
            from velodrome.trials.process_executor import ProcessExecutor

            class Host:
                def happened(self, event):
                    print(event.step, executor.launcher_pid, *executor.pids(), flush=True)

            def train(trial):
                child = subprocess.Popen(["sleep", "600"])
                trial.report(child.pid, score=0.0)
                time.sleep(600)

            executor = ProcessExecutor(ObjectiveSource.of(train), [Slot(0), Slot(1)])
            executor.describe()
            executor.open(Host(), StudyContext("s", ("score",), False, ""))
            for number in range(2):
                while not executor.room():
                    executor.poll(0.1)
                executor.launch(Job(number, 1, 0, {}))
            while True:
                executor.poll(1.0)
        """))
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as controller:
            assert controller.stdout is not None
            lines = [controller.stdout.readline() for _ in range(2)]
            controller.kill()
        pids = {int(word) for line in lines for word in line.split()}
        assert len(pids) == 5
        wait_for(lambda: all(map(is_gone, pids)), timeout_s=3.0)
