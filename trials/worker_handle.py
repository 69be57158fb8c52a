"""What the controller knows of one worker process: its sockets, its jobs, and where its output goes."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from pathlib import Path
from typing import IO, cast

from velodrome.resources.slots import Slot
from velodrome.trials import wire
from velodrome.trials.events import Event
from velodrome.trials.executor import Job, StudyContext
from velodrome.trials.launcher_client import LauncherClient
from velodrome.trials.preemption import Departure
from velodrome.trials.wire import Wire

_TAIL_BYTES = 4096


class WorkerHandle:
    """One worker, asked for at once.

    Attributes:
        key: Unique among all workers of an executor.
        pid: 0 until the launcher tells it.
        ready: Whether it has loaded the objective and can run trials.
        has_context: Whether it knows the study.
        retiring: Whether it is being ended because of what a trial left behind.
        departure: How it is brought to its end, where it must go.
        last_words: How trials ended for which the worker is killed, by number.
        jobs: The trials that it was given and has not finished, in order, with the count of processes killed for
            memory when they were launched.
        begun: Of a worker that trains several trials together: those that it has begun, with where their output starts.
        log_path: Where it writes what trials print, or ``""``.
        log_end: Where the output of the last finished trial ends there.
    """

    def __init__(self, key: int, slot: Slot, launcher: LauncherClient, context: StudyContext | None) -> None:
        self.key, self.slot = key, slot
        self.name = f"worker-{slot.index}"
        self.pid = 0
        self.ready = self.retiring = False
        self.departure: Departure | None = None
        self.last_words: dict[int, Event] = {}
        self.has_context = context is not None
        self.jobs: dict[int, tuple[Job, int]] = {}
        self.begun: dict[int, int] = {}
        self.log_path, self.log_end = "", 0
        self._fault_file = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115 - closed in close
        ours, theirs = socket.socketpair()
        our_control, their_control = socket.socketpair()
        self.wire, self._control = Wire(ours), Wire(our_control)
        with theirs, their_control:
            fds = [theirs.fileno(), their_control.fileno(), self._fault_file.fileno()]
            launcher.spawn(key, slot, context, fds)

    @property
    def takes_jobs(self) -> bool:
        """Whether it can be given trials."""
        return self.ready and not self.retiring and self.departure is None

    @property
    def running(self) -> tuple[int, ...]:
        """The trials that it runs, or the one that it is about to."""
        return tuple(number for number in self.jobs if number in self.begun) or tuple(self.jobs)[:1]

    def finish(self, number: int) -> None:
        """A trial has left the worker."""
        del self.jobs[number]
        self.begun.pop(number, None)

    def output_start(self, number: int) -> int:
        """Where the output of a running trial begins."""
        return self.begun.get(number, self.log_end)

    def introduce(self, context: StudyContext) -> None:
        """Tells the worker of its study, where it does not know."""
        if not self.has_context:
            self.has_context = True
            self.wire.queue([(wire.OPEN, context)])

    def stop(self, number: int, reason: str) -> None:
        """Tells the worker that a trial is to stop."""
        with contextlib.suppress(OSError):
            self._control.send([(wire.STOP, number, reason)])

    def preempt(self, number: int, reason: str, last_call_s: float) -> None:
        """Tells the worker that a trial is to give its place to another; after so long it ends at a report."""
        with contextlib.suppress(OSError):
            self._control.send([(wire.PREEMPT, number, reason, last_call_s)])

    def fault_dump(self) -> str:
        """The stack that a dead worker left behind, or ``""``."""
        self._fault_file.seek(0)
        return self._fault_file.read().decode(errors="replace")

    def log_size(self) -> int:
        """How long the worker's log is now."""
        try:
            return Path(self.log_path).stat().st_size if self.log_path else self.log_end
        except OSError:
            return self.log_end

    def log_tail(self) -> str:
        """The end of what the running trial printed."""
        if self.log_size() <= self.log_end:
            return ""
        with open(self.log_path, "rb") as log:  # noqa: PTH123 - as plain as Path.open
            log.seek(max(self.log_end, self.log_size() - _TAIL_BYTES))
            return log.read().decode(errors="replace")

    def close(self) -> None:
        """Closes the controller's ends."""
        self.wire.close()
        self._control.close()
        self._fault_file.close()
