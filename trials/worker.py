"""A worker process: loads the objective once, then runs one trial after another until it is killed.

It is forked by the launcher (``trials/launcher.py``) and ends only by death: its controller or launcher kills its
process group, or it notices that they are gone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from velodrome.errors import ObjectiveError
from velodrome.resources.packing import hold_to, measured_peak
from velodrome.resources.slots import Slot
from velodrome.trials import wire
from velodrome.trials.context import Trial
from velodrome.trials.data_room import DataRoom
from velodrome.trials.declaration import Objective, describe
from velodrome.trials.events import KINDS
from velodrome.trials.executor import Job, StudyContext
from velodrome.trials.fusing import measure
from velodrome.trials.gpu_part import settle_part
from velodrome.trials.objective import PackedObjective
from velodrome.trials.preemption import Preemption
from velodrome.trials.running import run_trial
from velodrome.trials.training_job import TrainingJob
from velodrome.trials.wire import Wire
from velodrome.trials.worker_link import WorkerLink, end_group
from velodrome.trials.worker_log import WorkerLog

_TICK_S = 0.02
_IDLE_TICK_S = 0.25
_LONG_TRIAL_S = 0.05
"""A trial that runs longer hands back the jobs that wait behind it."""
_MEASURED_AFTER, _MEASURE_EVERY_S = 3, 1.0
"""How many reports a worker's trials have made when their GPU memory is measured first, and how often then."""
_OOM_SCORE_ADJ = 500


def run_worker(
    source: PackedObjective, slot: Slot, context: StudyContext | None, jobs: Wire, control: Wire,
    fault_file: IO[bytes], room: DataRoom | None,
) -> None:
    """Becomes the worker; never returns.

    Args:
        source: The objective.
        slot: What the worker may use.
        context: The study, where it is known already.
        jobs: To the controller.
        control: From the controller, whatever the worker is doing.
        fault_file: Gets the Python stack where the process crashes.
        room: Where the data of a training job are for all workers.
    """
    _prepare(slot, fault_file)
    log = WorkerLog()
    link = WorkerLink(jobs)
    link.context = context
    watcher = _Watcher(link, log, control, slot)
    watcher.start()
    function = _load(source, link)
    if isinstance(function, TrainingJob):
        function.share_data(room)
    hold_to(slot.gpu_memory_part)
    context = link.wait_for_context(lambda configurations: measure(function, slot.device, configurations))
    _open_log(log, context, slot, link)
    if context.group_size > 1 and isinstance(function, TrainingJob):
        from velodrome.trials.fused.group_worker import GroupWorker

        GroupWorker(function, context, slot, link, log).run()
    while True:
        _run(link.next_job(), function, context, slot, link, log, watcher)


def _run(
    job: Job, function: Objective, context: StudyContext, slot: Slot, link: WorkerLink, log: WorkerLog,
    watcher: _Watcher,
) -> None:
    """Runs one trial and tells the controller how it ended."""
    start, started_at = log.begin(), time.monotonic()
    watcher.running = (job, start, started_at)
    outcome = run_trial(function, Trial(job, context, slot.device, link), context.metrics)
    watcher.running = None
    end = log.end()
    if slot.device == "cuda":
        outcome, peak_bytes = settle_part(outcome, slot)
        watcher.tell_peak(peak_bytes)
    fields: tuple[Any, ...] = tuple(outcome)
    done = (wire.DONE, job.number, KINDS[type(outcome)], fields, time.monotonic() - started_at, end)
    if end > start:
        link.tell((wire.OUTPUT, job.number, job.attempt, start, end), done)
    else:
        link.tell(done)
    link.forget(job.number)


def _load(source: PackedObjective, link: WorkerLink) -> Objective:
    """The objective; the controller hears what it says of itself, or why it can't be had."""
    try:
        if not source.payload:
            sys.argv = [source.ref]
        function, ref = source.load()
        link.tell((wire.READY, describe(function, ref)))
    except ObjectiveError as error:
        link.tell((wire.LOAD_ERROR, error.what, error.given, error.allowed, error.hint, error.traceback))
        signal.pause()  # the controller ends this process
        raise
    return function


def _open_log(log: WorkerLog, context: StudyContext, slot: Slot, link: WorkerLink) -> None:
    """From here on, what is printed goes to this worker's file; the controller hears which, or why that can't be."""
    path = str(Path(context.log_dir, f"worker-{slot.index}-{os.getpid()}.log")) if context.log_dir else ""
    try:
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        link.tell((wire.LOG_OPENED, path, log.open(path)))
    except OSError as error:
        hint = "make room there, or choose another place for the store: its logs stand beside it"
        link.tell((wire.LOAD_ERROR, "The trials' output can't be written", f"{path}: {error.strerror}", "", hint, ""))
        signal.pause()  # the controller ends this process
        raise


def _prepare(slot: Slot, fault_file: IO[bytes]) -> None:
    """Sets what of this process belongs to the slot: environment, threads, memory; and who is told of a crash."""
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a file descriptor is what is wanted
        os.dup2(nothing.fileno(), 0)
    os.environ.update(slot.env)
    os.environ.update(thread_env(slot.threads))
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(slot.threads)
    if slot.memory_bytes and slot.device == "cpu":
        resource.setrlimit(resource.RLIMIT_DATA, (slot.memory_bytes, slot.memory_bytes))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ))
    faulthandler.enable(file=fault_file)
    os.register_at_fork(after_in_child=_crash_into_log)
    _show_exit_line(fault_file)


def thread_env(threads: int) -> dict[str, str]:
    """What keeps numeric libraries to that many threads, if set before they are loaded."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
             "VECLIB_MAXIMUM_THREADS")
    return dict.fromkeys(names, str(threads))


def _crash_into_log() -> None:
    """In a child that the objective forked: its crash is no crash of the trial's."""
    faulthandler.enable(file=sys.__stderr__ or 2)


def _show_exit_line(fault_file: IO[bytes]) -> None:
    """Makes ``os._exit`` leave the stack behind, so that ``velo why`` can show the line that called it."""
    pid, real_exit = os.getpid(), os._exit

    def leave(status: int) -> None:
        if os.getpid() == pid:
            faulthandler.dump_traceback(fault_file)
        real_exit(status)

    setattr(os, "_exit", leave)  # noqa: B010 - mypy knows the attribute as a function that never returns


class _Watcher(threading.Thread):
    """Does what can't wait for the trial's end: sends reports, hears ``stop``, notices that the controller died."""

    def __init__(self, link: WorkerLink, log: WorkerLog, control: Wire, slot: Slot) -> None:
        super().__init__(name="velodrome-watcher", daemon=True)
        self._has_gpu, self._peak_bytes, self._measure_at = slot.device == "cuda", 0, 0.0
        self.running: tuple[Job, int, float] | None = None
        """The trial that runs, where its output starts, and when it began."""
        self._link, self._log, self._control = link, log, control
        self._announced: tuple[Job, int, float] | None = None

    def run(self) -> None:
        """Watches for good."""
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        self._watch(poll.poll)

    def _watch(self, wait: Callable[[float], list[tuple[int, int]]]) -> None:
        while True:
            if wait((_TICK_S if self.running is not None else _IDLE_TICK_S) * 1000):
                for kind, number, reason, *more in self._control.receive():
                    if kind == wire.PREEMPT:
                        self._link.preemptions[number] = Preemption(reason, time.monotonic() + more[0])
                    else:
                        self._link.stops[number] = reason
                if self._control.at_end:
                    end_group()
            self._link.flush()
            if (running := self.running) is not None:
                self._look_at(running)

    def _look_at(self, running: tuple[Job, int, float]) -> None:
        """Says where the running trial's output begins, once there is some; frees what waits behind a long trial."""
        job, start, started_at = running
        if self._log.grown() and self._announced is not running and self.running is running:
            self._announced = running
            self._link.tell((wire.OUTPUT, job.number, job.attempt, start, -1))
        now = time.monotonic()
        if now - started_at > _LONG_TRIAL_S:
            self._link.hand_back()
        if self._has_gpu and now >= self._measure_at and self._link.num_reports >= _MEASURED_AFTER:
            self._measure_at = now + _MEASURE_EVERY_S
            self.tell_peak(measured_peak())

    def tell_peak(self, peak_bytes: int) -> None:
        """Says how much GPU memory this process has had at most, where that is more than was said before."""
        if peak_bytes > self._peak_bytes:
            self._peak_bytes = peak_bytes
            self._link.tell((wire.GPU_PEAK, peak_bytes))
