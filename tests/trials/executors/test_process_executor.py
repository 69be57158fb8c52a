"""The process executor: the contract, what a worker is like, and what becomes of its output."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.queueing_contract import QueueingContract
from tests.support.processes import ProcessTests, processes
from velodrome.errors import ObjectiveError
from velodrome.resources.slots import Slot
from velodrome.trials.events import Event, Failed, Preempted, Returned
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.process_executor import ProcessExecutor


class TestProcessExecutor(ProcessTests, QueueingContract):
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


def test_a_large_closure_travels(tmp_path: Path) -> None:
    data = bytes(range(256)) * (1 << 16)

    def train(_trial: Any) -> float:
        return float(len(data))

    with ProcessTests().running(tmp_path, train, workers=2) as running:
        assert running.run(0) == Returned(0, {"score": float(1 << 24)})


def test_large_parameters_do_not_jam_the_pipe(tmp_path: Path) -> None:
    """Jobs larger than the socket's buffer go out as the worker reads, while its reports come in."""
    body = """
        for i in range(200):
            trial.report(i, **{f"metric_{j}": 0.5 for j in range(100)})
        return len(trial.params["x"])
    """
    with ProcessTests().running(tmp_path, body) as running:
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
    with ProcessTests().running(tmp_path, "raise KeyError('x')") as running:
        running.host.on_event = events.append
        running.failure(0)
    [event] = events
    assert isinstance(event, Failed)
    assert all(isinstance(value, str | int) for value in event.failure.values())
