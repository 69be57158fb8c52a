"""Runs trials in warm worker processes: the default executor.

The controller has no threads, and a trial costs it two small messages. ``WorkerPool`` has the processes; here is what
they are given to do, what comes of it, and who must go.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from velodrome.errors import ObjectiveError
from velodrome.resources.slots import Slot
from velodrome.trials import exits, wire
from velodrome.trials.company import Company, death_of
from velodrome.trials.events import (
    EVENTS,
    AttrSet,
    Checkpointed,
    Event,
    Failed,
    GivenBack,
    Noted,
    Reported,
    Restored,
)
from velodrome.trials.executor import Host, Job, ObjectiveInfo, StudyContext
from velodrome.trials.failed_starts import FailedStarts
from velodrome.trials.fusing import Choice, not_measured
from velodrome.trials.objective import ObjectiveSource, PackedObjective
from velodrome.trials.preemption import LAST_CALL, Departure, Step
from velodrome.trials.questions import QUESTIONS, answer
from velodrome.trials.queue_depth import QueueDepth
from velodrome.trials.wire import Message
from velodrome.trials.worker_handle import WorkerHandle
from velodrome.trials.worker_pool import WorkerPool
from velodrome.types import FailureClass, Params

_OOM_LOOK_EVERY_S = 1.0
_EVENTS: dict[int, type[Any]] = {
    wire.REPORTED: Reported, wire.ATTR_SET: AttrSet, wire.CHECKPOINTED: Checkpointed, wire.RESTORED: Restored,
    wire.NOTED: Noted,
}
"""Messages that are events, field by field."""


class ProcessExecutor:
    """One worker process per slot.

    Args:
        source: The objective.
        slots: What each worker may use.
        prefetch: The most trials that a worker may hold, where they are short. A sampler that learns from every result
            wants few.
    """

    runs_here = False

    def __init__(self, source: ObjectiveSource | PackedObjective, slots: list[Slot], *, prefetch: int = 8) -> None:
        self.gpu_peak_bytes = 0
        """The most GPU memory that a worker has had of one GPU."""
        self._source, self._slots, self._depth = source, slots, QueueDepth(prefetch)
        self._pool: WorkerPool | None = None
        named = source.ref if isinstance(source, PackedObjective) else str(source.objective)
        self._failed_starts = FailedStarts(named)
        self._info: ObjectiveInfo | None = None
        self._host: Host | None = None
        self._running_at: dict[int, WorkerHandle] = {}
        self._company = Company()
        self._choice: Choice | None = None
        self._oom_kills, self._oom_looked_at = 0, 0.0

    # --- the executor's contract

    def describe(self) -> ObjectiveInfo:
        """Starts the launcher and the first worker, which loads the objective and describes it."""
        self._look_at_oom_kills()
        packed = self._source if isinstance(self._source, PackedObjective) else self._source.pack()
        self._pool = WorkerPool(packed, self._slots, self._failed_starts, self._take, self._worker_died)
        while self._info is None:
            self._pool.wait(None)
        return self._info

    def probe(self, configurations: list[Params]) -> Choice:
        """Has the first worker measure how many of these trials are best trained together; before ``open``."""
        assert self._pool is not None
        self._pool.workers[0].wire.queue([(wire.PROBE, configurations)])
        while self._choice is None:
            self._pool.wait(None)
        return self._choice

    def open(self, host: Host, context: StudyContext) -> None:
        """Tells the first worker of the study, and starts the others."""
        assert self._pool is not None
        self._host, self._company = host, Company(context.group_size)
        self._pool.open(context)

    def room(self) -> int:
        """One trial per ready worker, more where trials are short or are trained together."""
        depth = self.depth
        return sum(max(0, depth - len(w.jobs)) for w in self._workers if w.takes_jobs)

    def launch(self, job: Job) -> tuple[str, str]:
        """Queues the trial for the least busy worker; it goes out with the next ``poll``."""
        worker = min((w for w in self._workers if w.takes_jobs), key=lambda w: len(w.jobs))
        job = self._company.placed(job)
        worker.jobs[job.number] = (job, self._oom_kills)
        self._running_at[job.number] = worker
        worker.wire.queue([(wire.JOB, *job)])
        return worker.name, worker.slot.label

    def stop(self, number: int, reason: str) -> None:
        """Tells the trial's worker at once; a trial that is over stays as it is."""
        if (worker := self._running_at.get(number)) is not None:
            worker.stop(number, reason)

    def preempt(self, number: int, reason: str, grace_s: float) -> None:
        """Takes a trial's place away, with those that are trained together with it.

        One that waits behind another is left alone, for both are short.
        """
        worker = self._running_at.get(number)
        if worker is not None and number in worker.running and worker.departure is None and not worker.retiring:
            worker.departure = Departure(reason, time.monotonic(), grace_s)
            self._see_off(worker)

    def abandon(self, number: int, event: Event) -> None:
        """Kills the trial's worker, if it runs this trial and none before it; another takes its place."""
        worker = self._running_at.get(number)
        if worker is not None and number in worker.running and not worker.retiring:
            worker.last_words[number] = event
            if len(worker.running) > 1:
                self._company.part([number], "it was silent for too long beside others")
            self._kill(worker)

    def held(self) -> list[Slot]:
        """The slots of all workers that are not known to be dead."""
        return [worker.slot for worker in self._workers]

    def resize(self, slots: Sequence[Slot], reason: str, leave_s: float, grace_s: float) -> None:
        """Starts workers for new slots, and sees off those whose slot is not among them."""
        assert self._pool is not None
        leave_at = time.monotonic() + leave_s
        for worker in self._workers:
            stays = worker.slot in slots
            if stays and worker.departure is not None and worker.departure.can_be_undone:
                worker.departure = None
            elif not stays and not worker.retiring:
                if worker.departure is None:
                    worker.departure = Departure(reason, leave_at, grace_s)
                elif worker.departure.can_be_undone:
                    worker.departure.tell_at = min(worker.departure.tell_at, leave_at)
                self._see_off(worker)
        self._pool.resize(slots)

    def poll(self, timeout_s: float) -> None:
        """Sends what is queued, then waits for news."""
        if time.monotonic() - self._oom_looked_at > _OOM_LOOK_EVERY_S:
            self._look_at_oom_kills()
        for worker in self._workers:
            if worker.departure is not None:
                self._see_off(worker)
        assert self._pool is not None
        self._pool.wait(timeout_s)

    def close(self) -> None:
        """Ends the launcher and every worker's process group; gives the unfinished trials back."""
        pool, self._pool = self._pool, None
        for worker in pool.close() if pool is not None else []:
            self._settle_output(worker)
            worker.close()
        unfinished, self._running_at = self._running_at, {}
        if self._host is not None:
            for number, worker in unfinished.items():
                self._host.happened(GivenBack(number, ran=number in worker.running))

    def pids(self) -> list[int]:
        """The process ids of the workers that have started."""
        return [w.pid for w in self._workers if w.pid]

    def fileno(self) -> int:
        """A file descriptor that is readable when ``poll`` has something to do."""
        assert self._pool is not None
        return self._pool.fileno()

    @property
    def ready(self) -> bool:
        """Whether a worker can be given a trial."""
        return any(w.takes_jobs for w in self._workers)

    @property
    def sees_off(self) -> bool:
        """Whether a worker is on its way out: then ``poll`` takes the next step when it is time."""
        return any(w.departure is not None for w in self._workers)

    @property
    def depth(self) -> int:
        """How many trials a worker may hold: as many as it trains together, or by how long they take."""
        return self._company.size or self._depth.value

    @property
    def launcher_pid(self) -> int:
        """The launcher's process id, or 0 while there is none."""
        return self._pool.launcher_pid if self._pool is not None else 0

    @property
    def _workers(self) -> list[WorkerHandle]:
        return self._pool.workers if self._pool is not None else []

    # --- what arrives

    def _take(self, worker: WorkerHandle, message: Message) -> None:
        host, kind = self._host, message[0]
        if host is not None and kind in _EVENTS:
            host.happened(_EVENTS[kind](*message[1:]))
            return
        match kind:
            case wire.DONE:
                self._done(worker, *message[1:])
            case wire.OUTPUT if host is not None:
                _, number, attempt, start, end = message
                host.output(number, attempt, worker.log_path, start, end)
            case question if host is not None and question in QUESTIONS:
                self._answer(worker, answer(host, message))
            case wire.UNSTARTED:
                self._hand_back(worker, message[1])
            case wire.BEGUN:
                worker.begun |= dict.fromkeys(message[1], message[2])
            case wire.BROKEN_UP:
                self._broken_up(worker, *message[1:])
            case wire.PROBED:
                self._choice = message[1]
            case wire.GPU_PEAK:
                self.gpu_peak_bytes = max(self.gpu_peak_bytes, message[1])
            case wire.READY:
                self._info = message[1]
            case wire.LOG_OPENED:
                _, worker.log_path, worker.log_end = message
                worker.ready = True
                self._failed_starts.succeeded()
            case wire.LOAD_ERROR:
                _, what, given, allowed, hint, text = message
                raise ObjectiveError(what, given=given, allowed=allowed, hint=hint, traceback=text)

    def _done(
        self, worker: WorkerHandle, number: int, kind: str, fields: tuple[object, ...], duration_s: float, log_end: int
    ) -> None:
        """A trial ended, with its worker alive."""
        worker.log_end = log_end
        self._leaves(worker, number)
        self._depth.took(duration_s)
        event = EVENTS[kind](*fields)
        if isinstance(event, Failed) and event.failure["kind"] == FailureClass.OOM:
            worker.retiring = True  # what filled the memory may still be held by a library's cache
            self._kill(worker)
        elif worker.departure is not None:
            self._see_off(worker)
        if self._host is not None:
            self._host.happened(event)

    def _hand_back(self, worker: WorkerHandle, numbers: tuple[int, ...]) -> None:
        """The worker's present trial takes long: what waits behind it can run elsewhere."""
        self._depth.takes_long()
        for number in numbers:
            self._ended(worker, number, GivenBack(number, ran=False))

    def _broken_up(self, worker: WorkerHandle, numbers: tuple[int, ...], size: int, reason: str) -> None:
        """Trials failed together, and whose fault it was is not known; where memory ran out, they were too many."""
        if size > 1:
            self._company.shrink(size)
            worker.retiring = True  # what filled the memory may still be held by a library's cache
            self._kill(worker)
        else:
            self._company.part(numbers, reason)
        for number in numbers:
            self._ended(worker, number, GivenBack(number, True, reason))

    def _leaves(self, worker: WorkerHandle, number: int) -> None:
        worker.finish(number)
        del self._running_at[number]

    def _answer(self, worker: WorkerHandle, answer: Message) -> None:
        assert self._pool is not None
        worker.wire.queue([answer])
        self._pool.flush(worker)

    # --- departures and deaths

    def _kill(self, worker: WorkerHandle) -> None:
        if self._pool is not None:
            self._pool.kill(worker)

    def _see_off(self, worker: WorkerHandle) -> None:
        """Takes the next step, if it is time, to bring a worker to its end."""
        departure = worker.departure
        if departure is None or self._pool is None:
            return
        match departure.due(time.monotonic(), worker.running):
            case Step.TELL:
                for number in departure.numbers:
                    worker.preempt(number, departure.reason, LAST_CALL * departure.grace_s)
            case Step.TERMINATE:
                self._pool.terminate(worker)
            case Step.KILL:
                worker.retiring = not departure.concerns(worker.running)
                self._pool.kill(worker)

    def _worker_died(self, worker: WorkerHandle, status: int | None) -> None:
        """Says what became of the dead worker's trials; without a status, the launcher took it along."""
        self._settle_output(worker)
        dump, tail = worker.fault_dump(), worker.log_tail()
        worker.close()
        self._look_at_oom_kills()
        if status is not None and not worker.ready and worker.departure is None:
            self._failed_starts.worker_died(worker, status, dump, tail)
        if self._info is not None and self._host is None:
            self._choice = not_measured("the process that measured was ended")
        running = () if worker.retiring else worker.running
        death = death_of(worker, status, dump, tail, self._oom_kills) if running else ""
        for number, event in [(n, self._company.verdict(worker, n, death)) for n in running]:
            self._ended(worker, number, event)
        for number in list(worker.jobs):
            self._ended(worker, number, GivenBack(number, ran=number in worker.begun))

    def _settle_output(self, worker: WorkerHandle) -> None:
        """Says where the output of trials lies whose worker can't say it any more."""
        size = worker.log_size()
        for number in worker.running:
            if size > (start := worker.output_start(number)) and self._host is not None:
                self._host.output(number, worker.jobs[number][0].attempt, worker.log_path, start, size)

    def _ended(self, worker: WorkerHandle, number: int, event: Event) -> None:
        """A trial has left its worker, and no word of its own comes."""
        self._leaves(worker, number)
        if self._host is not None:
            self._host.happened(event)

    def _look_at_oom_kills(self) -> None:
        self._oom_kills, self._oom_looked_at = exits.count_oom_kills(), time.monotonic()
