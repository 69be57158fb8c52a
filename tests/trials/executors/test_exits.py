"""What a worker's exit status means, and the shape of failures where no process is needed to see it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from velodrome.trials import exits, failures
from velodrome.types import Failure, FailureClass

DUMP = """Fatal Python error: Segmentation fault

Thread 0x00007f01 (most recent call first):
  File "/home/me/other.py", line 3 in elsewhere

Current thread 0x00007f02 (most recent call first):
  File "/usr/lib/python3.11/site-packages/lib/core.py", line 519 in call
  File "/home/me/train.py", line 7 in train
  File "/home/me/deeper.py", line 1 in caller

Extension modules: numpy.core (total: 1)
"""


@pytest.mark.parametrize(("status", "tail", "oom", "kind"), [
    (3, "", False, FailureClass.USER),
    (0, "", False, FailureClass.USER),
    (-signal.SIGSEGV, "", False, FailureClass.USER),
    (-signal.SIGABRT, "terminate called after throwing an instance of 'std::bad_alloc'", False, FailureClass.OOM),
    (-signal.SIGABRT, "", False, FailureClass.USER),
    (-signal.SIGKILL, "", True, FailureClass.OOM),
])
def test_exits_that_fail_the_trial(status: int, tail: str, oom: bool, kind: FailureClass) -> None:
    verdict = exits.of_exit(status, "", tail, oom)
    assert isinstance(verdict, Failure)
    assert verdict.kind is kind


@pytest.mark.parametrize(("signum", "oom"), [
    (signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, False),
    (signal.SIGINT, False),
])
def test_exits_that_lose_the_worker(signum: signal.Signals, oom: bool) -> None:
    assert exits.of_exit(-signum, "", "", oom) == f"the worker was ended from outside by {signum.name}"


def test_the_crashed_threads_innermost_line_of_the_users_code_is_shown() -> None:
    verdict = exits.of_exit(-signal.SIGSEGV, DUMP, "", out_of_memory=False)
    assert isinstance(verdict, Failure)
    assert (verdict.file, verdict.line) == ("/home/me/train.py", 7)
    assert "elsewhere" not in verdict.traceback
    assert "Extension" not in verdict.traceback


def test_the_count_of_oom_kills_reads_every_counter_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vmstat, events = tmp_path / "vmstat", tmp_path / "memory.events"
    vmstat.write_text("pgfault 12\noom_kill 3\nother 9\n")
    events.write_text("low 0\noom 4\noom_kill 4\n")
    monkeypatch.setattr(exits, "_COUNTERS", (str(vmstat), str(events), str(tmp_path / "missing")))
    assert exits.count_oom_kills() == 4


def test_a_long_traceback_is_cut_in_the_middle() -> None:
    failure = failures.of_exception(ValueError("x" * 100_000), None)
    assert len(failure.traceback) < failures.MAX_TRACEBACK_CHARS + 100
    assert len(failure.message) <= failures.MAX_MESSAGE_CHARS


def test_an_exception_whose_text_raises_is_still_told() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert failures.of_exception(BrokenError(), None).message == "BrokenError"
