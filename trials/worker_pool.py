"""The worker processes of one executor, and the launcher that forks them: births, deaths, and what they say.

One selector watches all of them. A worker whose slot is still wanted is replaced as soon as it dies; when the launcher
dies, every worker dies with it, and all are started anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector

from velodrome.resources.slots import Slot
from velodrome.trials import wire
from velodrome.trials.executor import StudyContext
from velodrome.trials.failed_starts import FailedStarts
from velodrome.trials.launcher_client import LauncherClient, kill_group
from velodrome.trials.objective import PackedObjective
from velodrome.trials.wire import Message
from velodrome.trials.worker_handle import WorkerHandle


class WorkerPool:
    """One worker for each slot.

    Args:
        packed: The objective.
        slots: What each worker may use.
        failed_starts: Counts those that never become ready.
        on_message: Takes what a worker sent.
        on_death: Takes a dead worker, whose last messages have come, with its exit status (minus the signal's number);
            None where the launcher died. It closes the worker.
    """

    def __init__(
        self,
        packed: PackedObjective,
        slots: Sequence[Slot],
        failed_starts: FailedStarts,
        on_message: Callable[[WorkerHandle, Message], None],
        on_death: Callable[[WorkerHandle, int | None], None],
    ) -> None:
        self._packed, self._slots, self._failed_starts = packed, list(slots), failed_starts
        self._on_message, self._on_death = on_message, on_death
        self._context: StudyContext | None = None
        self._selector = DefaultSelector()
        self._workers: dict[int, WorkerHandle] = {}
        self._next_key = 0
        self._launcher: LauncherClient | None = None
        self._start_launcher()
        self._spawn(self._slots[0])

    @property
    def workers(self) -> list[WorkerHandle]:
        """All workers that are not known to be dead."""
        return list(self._workers.values())

    @property
    def launcher_pid(self) -> int:
        """The launcher's process id, or 0 while there is none."""
        return self._launcher.pid if self._launcher is not None else 0

    def fileno(self) -> int:
        """A file descriptor that is readable when ``wait`` has something to do."""
        return self._selector.fileno()

    def open(self, context: StudyContext) -> None:
        """Tells the first worker of the study, and starts the others."""
        self._context = context
        for worker in self._workers.values():
            worker.introduce(context)
        self._spawn_missing()

    def resize(self, slots: Sequence[Slot]) -> None:
        """From now on these are the slots that have a worker; those of others stay until they are ended."""
        self._slots = list(slots)
        self._spawn_missing()

    def wait(self, timeout_s: float | None) -> None:
        """Sends what is queued, then takes in what arrives within the time."""
        for worker in self._workers.values():
            self.flush(worker)
        launcher_spoke = False
        for key, _ in self._selector.select(timeout_s):
            worker_key: int | None = key.data
            if worker_key is None:
                launcher_spoke = True
            elif (known := self._workers.get(worker_key)) is not None:
                self._drain(known)
        if launcher_spoke:
            self._hear_launcher()

    def flush(self, worker: WorkerHandle) -> None:
        """Sends what is queued for a worker; what does not fit goes when the socket has room."""
        if not worker.wire.at_end:
            events = EVENT_READ if worker.wire.flush() else EVENT_READ | EVENT_WRITE
            if self._selector.get_key(worker.wire).events != events:
                self._selector.modify(worker.wire, events, worker.key)

    def terminate(self, worker: WorkerHandle) -> None:
        """Sends SIGTERM to the worker's process group."""
        if self._launcher is not None:
            self._launcher.terminate(worker.key)

    def kill(self, worker: WorkerHandle) -> None:
        """Sends SIGKILL to the worker's process group."""
        if self._launcher is not None:
            self._launcher.kill(worker.key)

    def close(self) -> list[WorkerHandle]:
        """Ends the launcher and every worker's process group; the workers, which are the caller's to close."""
        launcher, self._launcher = self._launcher, None
        all_gone = launcher is None or launcher.close()
        workers, self._workers = self.workers, {}
        for worker in workers:
            if worker.pid and not all_gone:
                kill_group(worker.pid)
        self._selector.close()
        return workers

    # --- births and deaths

    def _start_launcher(self) -> None:
        self._launcher = LauncherClient(self._packed, min((slot.threads for slot in self._slots), default=1))
        self._selector.register(self._launcher.wire, EVENT_READ, None)

    def _spawn(self, slot: Slot) -> None:
        assert self._launcher is not None
        worker = WorkerHandle(self._next_key, slot, self._launcher, self._context)
        self._next_key += 1
        self._workers[worker.key] = worker
        self._selector.register(worker.wire, EVENT_READ, worker.key)

    def _spawn_missing(self) -> None:
        """A worker for each slot that has none."""
        taken = [worker.slot.index for worker in self._workers.values()]
        for slot in self._slots:
            if slot.index not in taken:  # where one of this index is on its way out, when it is gone
                self._spawn(slot)

    def _drain(self, worker: WorkerHandle) -> None:
        """Takes in all that a worker has sent."""
        for message in worker.wire.receive():
            self._on_message(worker, message)
        if worker.wire.at_end:
            self._selector.unregister(worker.wire)

    def _hear_launcher(self) -> None:
        launcher = self._launcher
        assert launcher is not None
        for kind, key, value in launcher.receive():
            if kind == wire.STARTED:
                self._workers[key].pid = value
            else:
                self._bury(self._workers[key], value)
                self._spawn_missing()
        if launcher.wire.at_end:
            self._launcher_died(launcher)

    def _launcher_died(self, launcher: LauncherClient) -> None:
        self._selector.unregister(launcher.wire)
        self._failed_starts.launcher_died(launcher)
        launcher.close()
        for worker in self.workers:
            if worker.pid:
                kill_group(worker.pid)
            self._bury(worker, None)
        self._start_launcher()
        self._spawn_missing()

    def _bury(self, worker: WorkerHandle, status: int | None) -> None:
        """Takes in the dead worker's last messages, and forgets it."""
        if not worker.wire.at_end:
            self._drain(worker)
        if not worker.wire.at_end:
            self._selector.unregister(worker.wire)  # a child of the trial, in a session of its own, holds it open
        del self._workers[worker.key]
        self._on_death(worker, status)
