"""The process executor, driven by hand, and what tests ask of its processes."""

from __future__ import annotations

from typing import Any

import psutil

from tests.support.executors import ExecutorTests, Running
from velodrome.resources.slots import Slot
from velodrome.trials.executor import Executor
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.process_executor import ProcessExecutor

SLEEP = "import time\ntrial.report(0, score=0.0)\ntime.sleep(600)"
"""An objective that reports once and then does not end."""


def processes(running: Running) -> ProcessExecutor:
    """The executor as what it is."""
    assert isinstance(running.executor, ProcessExecutor)
    return running.executor


def worker(running: Running) -> int:
    """The process id of the only worker."""
    running.until(lambda: bool(processes(running).pids()))
    return processes(running).pids()[0]


def is_gone(pid: int) -> bool:
    """Whether no such process runs (a zombie does not)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class ProcessTests(ExecutorTests):
    """Tests of the process executor; the options that ``running`` is given are those of its slots."""

    def make(self, source: ObjectiveSource, *, workers: int = 1, prefetch: int = 8, **options: Any) -> Executor:
        return ProcessExecutor(source, [Slot(i, **options) for i in range(workers)], prefetch=prefetch)
