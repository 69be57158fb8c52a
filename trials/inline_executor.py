"""Runs trials in the user's own process and thread, so that pdb, profilers and prints work as in any script."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from velodrome.errors import SpaceError
from velodrome.resources.slots import Slot
from velodrome.trials.checkpoints import Written
from velodrome.trials.context import Trial
from velodrome.trials.declaration import Objective, describe
from velodrome.trials.events import AttrSet, Checkpointed, Event, GivenBack, Noted, Reported, Restored
from velodrome.trials.executor import Host, Job, ObjectiveInfo, StudyContext
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.preemption import LAST_CALL, Preemption
from velodrome.trials.running import run_trial
from velodrome.types import Metrics, ParamValue

WORKER = "inline"


class InlineExecutor:
    """One trial at a time, inside ``poll``. Output goes where the process's output goes.

    Not handled: an objective that ends the process (``os._exit``, a segmentation fault) ends the study's controller.
    """

    runs_here = True
    gpu_peak_bytes = 0

    def __init__(self, source: ObjectiveSource, slot: Slot) -> None:
        self._source, self._slot = source, slot
        self._function: Objective | None = None
        self._host: Host | None = None
        self._context: StudyContext | None = None
        self._job: Job | None = None
        self._stops: dict[int, str] = {}
        self._preemption: Preemption | None = None
        self._env_before: dict[str, str | None] = {}
        self._pid = os.getpid()
        self._host_error: Exception | None = None

    def describe(self) -> ObjectiveInfo:
        """Loads the objective into this process."""
        self._function, ref = self._source.load()
        return describe(self._function, ref)

    def open(self, host: Host, context: StudyContext) -> None:
        """Ready to launch; the slot's environment is set."""
        self._host, self._context = host, context
        self._env_before = {name: os.environ.get(name) for name in self._slot.env}
        os.environ.update(self._slot.env)

    def room(self) -> int:
        """One trial, where none waits."""
        return 1 if self._job is None and self._host is not None else 0

    def launch(self, job: Job) -> tuple[str, str]:
        """Keeps the trial for the next ``poll``."""
        self._job = job
        return WORKER, self._slot.label

    def stop(self, number: int, reason: str) -> None:
        """Called from within the running trial's own report."""
        if self._job is not None and self._job.number == number:
            self._stops[number] = reason

    def preempt(self, number: int, reason: str, grace_s: float) -> None:
        """Called from within the running trial's own report; one that pays no heed is not ended."""
        if self._job is not None and self._job.number == number:
            self._preemption = Preemption(reason, time.monotonic() + LAST_CALL * grace_s)

    def abandon(self, number: int, event: Event) -> None:
        """Does nothing: while the trial runs, nobody else does."""

    def held(self) -> list[Slot]:
        """The one slot."""
        return [self._slot]

    def resize(self, slots: Sequence[Slot], reason: str, leave_s: float, grace_s: float) -> None:
        """Does nothing: this process has its place as long as it runs."""

    def poll(self, timeout_s: float) -> None:
        """Runs the waiting trial to its end, however long that takes."""
        job, function, host, context = self._job, self._function, self._host, self._context
        if job is None or function is None or host is None or context is None:
            return
        outcome = run_trial(function, Trial(job, context, self._slot.device, self), context.metrics)
        if self._host_error is not None:  # raised inside the objective, but none of its doing
            raise self._host_error
        self._job = self._preemption = None
        self._stops.clear()
        host.happened(outcome)

    def close(self) -> None:
        """Gives back the trial that did not end; restores the environment."""
        host, job, self._host, self._job = self._host, self._job, None, None
        for name, value in self._env_before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._env_before = {}
        if host is not None and job is not None:
            host.happened(GivenBack(job.number))

    # --- what the running trial asks for

    def report(self, number: int, step: int, metrics: Metrics) -> None:
        """The running trial's report goes straight to the host."""
        with self._calling() as host:
            if host is not None:
                host.happened(Reported(number, step, metrics))

    def set_attr(self, number: int, name: str, value: Any) -> None:
        """The running trial's attribute goes straight to the host."""
        with self._calling() as host:
            if host is not None:
                host.happened(AttrSet(number, name, value))

    def checkpointed(self, number: int, step: int, written: Written) -> None:
        """Goes straight to the host."""
        with self._calling() as host:
            if host is not None:
                host.happened(Checkpointed(number, step, *written))

    def restored(self, number: int, step: int | None, skipped: list[str]) -> None:
        """Goes straight to the host."""
        with self._calling() as host:
            if host is not None:
                host.happened(Restored(number, step, skipped))

    def suggest(self, number: int, name: str, domain: dict[str, Any]) -> ParamValue:
        """Asks the host."""
        try:
            with self._calling() as host:
                if host is None:
                    raise SpaceError("Only the trial's own process can ask for a parameter", given=repr(name))
                return host.suggest(number, name, domain)
        except SpaceError as error:
            raise error.with_traceback(None) from None  # where in the host it arose is none of the trial's business

    def ask_stop(self, number: int) -> bool:
        """Asks the host."""
        with self._calling() as host:
            return host is not None and host.should_stop(number)

    def ask_pause(self, number: int) -> bool:
        """Asks the host."""
        with self._calling() as host:
            return host is not None and host.should_pause(number)

    def ask_save(self, number: int, *, at_end: bool) -> bool:
        """Asks the host."""
        with self._calling() as host:
            return host is not None and host.should_save(number, at_end=at_end)

    def stop_reason(self, number: int) -> str | None:
        """What ``stop`` left for the trial."""
        return self._stops.get(number)

    def preemption(self, _number: int) -> Preemption | None:
        """What ``preempt`` left for the trial."""
        return self._preemption

    def note(self, number: int, by: str, action: str, reason: str) -> None:
        """Goes straight to the host."""
        with self._calling() as host:
            if host is not None:
                host.happened(Noted(number, by, action, reason))

    @contextmanager
    def _calling(self) -> Iterator[Host | None]:
        """The host, or None in a child that the objective forked; keeps an error of the host's own."""
        try:
            yield self._host if os.getpid() == self._pid else None
        except SpaceError:
            raise
        except Exception as error:
            self._host_error = error
            raise
