"""The process executor: the contract, and every way in which processes die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.contracts.executor_contract import PATIENCE_S, Running
from tests.contracts.queueing_contract import QueueingContract
from velodrome.errors import ObjectiveError
from velodrome.resources.slots import Slot
from velodrome.trials import preemption
from velodrome.trials.events import Checkpointed, Event, Failed, GivenBack, Lost, Preempted, Reported, Returned
from velodrome.trials.executor import Executor
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.process_executor import ProcessExecutor

SLEEP = "import time\ntrial.report(0, score=0.0)\ntime.sleep(600)"


def processes(running: Running) -> ProcessExecutor:
    """The executor as what it is."""
    assert isinstance(running.executor, ProcessExecutor)
    return running.executor


def worker(running: Running) -> int:
    """The process id of the only worker."""
    running.until(lambda: bool(processes(running).pids()))
    return processes(running).pids()[0]


def wait_until(true: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Waits for something outside of this process; fails where it does not come."""
    end_at = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_at
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether no such process runs (a zombie does not)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def _quick_to_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL comes soon after SIGTERM."""
    monkeypatch.setattr(preemption, "KILL_AFTER_S", 0.3)


class TestProcessExecutor(QueueingContract):
    def make(self, source: ObjectiveSource, *, workers: int = 1, prefetch: int = 8, **options: Any) -> Executor:
        return ProcessExecutor(source, [Slot(i, **options) for i in range(workers)], prefetch=prefetch)

    # --- what a worker is like

    def test_workers_run_at_the_same_time(self, tmp_path: Path) -> None:
        meet = tmp_path / "met"
        body = f"""
            import pathlib, time
            pathlib.Path({str(meet)!r} + str(trial.number)).touch()
            while not all(pathlib.Path({str(meet)!r} + str(n)).exists() for n in range(2)):
                time.sleep(0.01)
            return trial.number
        """
        with self.running(tmp_path, body, workers=2) as running:
            running.launch(0)
            running.launch(1)
            running.until(lambda: len(running.host.events) == 2)
            assert len(set(processes(running).pids())) == 2

    def test_the_slot_sets_threads_environment_and_device(self, tmp_path: Path) -> None:
        body = """
            import os
            import torch
            assert trial.device == "cuda" and os.environ["CUDA_VISIBLE_DEVICES"] == "3"
            return {"score": torch.get_num_threads(), "omp": int(os.environ["OMP_NUM_THREADS"])}
        """
        options: dict[str, Any] = {"threads": 2, "device": "cuda", "env": {"CUDA_VISIBLE_DEVICES": "3"}}
        with self.running(tmp_path, body, **options) as running:
            assert running.run(0) == Returned(0, {"score": 2.0, "omp": 2.0})

    def test_the_launcher_imports_only_what_the_file_does(self, tmp_path: Path) -> None:
        body = "import sys\nreturn 'numpy' in sys.modules, any(m in sys.modules for m in ('torch', 'optuna', 'scipy'))"
        with self.running(tmp_path, body, metrics=("numpy", "others")) as running:
            assert running.run(0) == Returned(0, {"numpy": 0.0, "others": 0.0})
        with self.running(tmp_path, body + "\nimport numpy", metrics=("numpy", "others")) as running:
            assert running.run(0) == Returned(0, {"numpy": 1.0, "others": 0.0})

    def test_a_slow_trials_report_is_not_kept_back(self, tmp_path: Path) -> None:
        body = "import time\nfor i in range(3): trial.report(i, score=0.0)\ntime.sleep(600)"
        with self.running(tmp_path, body) as running:
            running.launch(0)
            running.until(lambda: len(running.host.events) == 3)

    # --- output

    def test_output_is_kept_by_trial(self, tmp_path: Path) -> None:
        body = """
            import os, sys
            if trial.number == 1:
                print("one", end="")
                print("error", file=sys.stderr, end="")
                sys.stdout.flush()
                os.system("echo child")
            if trial.number == 2:
                print("two é \\ud800")
        """
        with self.running(tmp_path, body) as running:
            for number in range(4):
                running.run(number)
            assert sorted(running.host.printed(1)) == sorted("oneerrorchild\n")
            assert running.host.printed(2) == "two é \\ud800\n"
            assert {number for number, *_ in running.host.outputs} == {1, 2}

    def test_output_of_a_running_trial_is_announced(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "import time\nprint('hello')\ntime.sleep(600)") as running:
            running.launch(0, attempt=2)
            running.until(lambda: bool(running.host.outputs))
            [(number, attempt, path, start, end)] = running.host.outputs
            assert (number, attempt, end) == (0, 2, -1)
            assert Path(path).read_bytes()[start:] == b"hello\n"

    def test_a_hundred_megabytes_are_cut_to_both_ends(self, tmp_path: Path) -> None:
        body = """
            print("first")
            for _ in range(100):
                print("x" * (1 << 20))
            print("last")
            return 1.0
        """
        with self.running(tmp_path, body) as running:
            assert isinstance(running.run(0), Returned)
            text = running.host.printed(0)
            running.run(1)
            assert running.host.printed(1).startswith("first\n")
        assert text.startswith("first\n")
        assert text.endswith("last\n")
        assert len(text) < 12 << 20
        assert "bytes of this trial's output were cut here" in text

    def test_output_before_a_crash_is_kept(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "import os\nprint('before')\nos.kill(os.getpid(), 9)") as running:
            running.run(0)
            assert running.host.printed(0) == "before\n"

    # --- GPUs, with a stand-in for torch

    def test_what_a_trial_needs_of_a_gpu_is_known_after_a_few_reports_and_too_small_a_part_is_no_failure(
        self, tmp_path: Path
    ) -> None:
        body = """
            import sys, time, types
            if "torch" not in sys.modules:
                cuda = types.SimpleNamespace(
                    is_initialized=lambda: True, is_available=lambda: True, device_count=lambda: 1,
                    max_memory_reserved=lambda device: 3 << 30, empty_cache=lambda: None,
                    get_device_properties=lambda device: types.SimpleNamespace(total_memory=16 << 30))
                sys.modules["torch"] = types.SimpleNamespace(cuda=cuda, manual_seed=lambda seed: None)
            if trial.number == 1:
                raise RuntimeError("CUDA out of memory")
            for step in range(4):
                trial.report(step, score=0)
            while not trial.should_stop:
                time.sleep(0.01)
            return 1.0
        """
        part = {"device": "cuda", "label": "cuda:0", "gpu_memory_part": 0.25, "may_grow": True}
        with self.running(tmp_path, body, **part) as running:  # type: ignore[arg-type]  # a slot's fields
            running.launch(0)
            running.until(lambda: running.executor.gpu_peak_bytes > 0)
            assert running.executor.gpu_peak_bytes == (3 << 30) + (512 << 20), "while it runs"
            running.executor.stop(0, "enough")
            running.until(lambda: any(isinstance(e, Returned) for e in running.host.of(0)))
            preempted = running.run(1)
            assert isinstance(preempted, Preempted)
            assert "its part of the GPU, 4 GiB, was too small" in preempted.reason
            assert running.executor.gpu_peak_bytes == 8 << 30

    def test_a_slot_that_changes_gets_its_worker_when_the_one_before_is_gone(self, tmp_path: Path) -> None:
        body = "import os, time\ntrial.report(0, score=os.getpid())\nwhile not trial.should_stop: time.sleep(0.01)"
        with self.running(tmp_path, body) as running:
            executor = running.executor
            assert isinstance(executor, ProcessExecutor)
            running.launch(0)
            running.until(lambda: bool(running.host.of(0)))
            executor.resize([Slot(0, threads=2), Slot(1)], "more room", 1e9, 30.0)
            running.until(lambda: executor.room() == 1)
            assert [(slot.index, slot.threads) for slot in executor.held()] == [(0, 1), (1, 1)]
            executor.stop(0, "enough")
            running.until(lambda: executor.room() == 2)
            assert sorted((slot.index, slot.threads) for slot in executor.held()) == [(0, 2), (1, 1)]

    # --- deaths

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
            wait_until(lambda: is_gone(first.step))
            running.launch(1)
            running.until(lambda: len(running.host.events) == 3)
            second = running.host.events[2]
            assert isinstance(second, Reported)
            running.executor.close()
            wait_until(lambda: is_gone(second.step))

    def test_a_dead_launcher_is_replaced_and_its_trials_are_lost(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "if trial.number: return 1.0\n" + SLEEP, workers=2) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.events) and len(processes(running).pids()) == 2)
            before = processes(running).pids()
            os.kill(processes(running).launcher_pid, signal.SIGKILL)
            running.until(lambda: len(running.host.events) == 2)
            assert isinstance(running.host.ending(0), Lost)
            wait_until(lambda: all(map(is_gone, before)))
            assert running.run(1) == Returned(1, {"score": 1.0})

    # --- places that come and go

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
            wait_until(lambda: is_gone(first.step) and is_gone(before))
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
            wait_until(lambda: is_gone(pid))

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

    def test_close_leaves_no_process(self, tmp_path: Path) -> None:
        with self.running(tmp_path, SLEEP, workers=2) as running:
            running.launch(0)
            running.launch(1)
            running.until(lambda: len(running.host.events) == 2)
            pids = [*processes(running).pids(), processes(running).launcher_pid]
        assert len(pids) == 3
        wait_until(lambda: all(map(is_gone, pids)))

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

    def test_a_log_folder_that_can_not_be_made_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "logs").write_text("a file")
        with self.running(tmp_path, "return 1.0") as running, pytest.raises(ObjectiveError, match="can't be written"):
            running.launch(0)

    def test_an_objective_that_replaces_standard_output_runs_on(self, tmp_path: Path) -> None:
        body = """
            import sys
            class Tee:
                def write(self, text): sys.__stdout__.write(text)
            sys.stdout = Tee()
            print("through")
            sys.stderr.close()
        """
        with self.running(tmp_path, body) as running:
            assert running.run(0) == Returned(0, {})
            assert running.host.printed(0) == "through\n"
            assert running.run(1) == Returned(1, {})

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
        wait_until(lambda: all(map(is_gone, pids)), within_s=3.0)


def test_a_large_closure_travels(tmp_path: Path) -> None:
    data = bytes(range(256)) * (1 << 16)

    def train(_trial: Any) -> float:
        return float(len(data))

    with TestProcessExecutor().running(tmp_path, train, workers=2) as running:
        assert running.run(0) == Returned(0, {"score": float(1 << 24)})


def test_large_parameters_do_not_jam_the_pipe(tmp_path: Path) -> None:
    """Jobs larger than the socket's buffer go out as the worker reads, while its reports come in."""
    body = """
        for i in range(200):
            trial.report(i, **{f"metric_{j}": 0.5 for j in range(100)})
        return len(trial.params["x"])
    """
    with TestProcessExecutor().running(tmp_path, body) as running:
        for number in range(6):
            running.launch(number, {"x": "y" * (1 << 20)})
        running.until(lambda: sum(isinstance(e, Returned) for e in running.host.events) == 6)
        assert running.host.ending(5) == Returned(5, {"score": float(1 << 20)})


def test_a_function_that_can_not_be_pickled_is_an_error() -> None:
    lock = threading.Lock()

    def train(_trial: Any) -> float:
        return float(lock.locked())

    executor = ProcessExecutor(ObjectiveSource.of(train), [Slot(0)])
    with pytest.raises(ObjectiveError, match="can't be sent to a worker"):
        executor.describe()
    executor.close()


def test_a_failure_event_holds_json(tmp_path: Path) -> None:
    events: list[Event] = []
    with TestProcessExecutor().running(tmp_path, "raise KeyError('x')") as running:
        running.host.on_event = events.append
        running.failure(0)
    [event] = events
    assert isinstance(event, Failed)
    assert all(isinstance(value, str | int) for value in event.failure.values())
