"""Runs trials in warm worker processes, forked by a launcher: the default executor.

The controller has no threads: one selector watches every worker and the launcher. Workers are asked for jobs' results
only through what they send, so a trial costs the controller two small messages. A dead worker is replaced at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector

from velodrome.errors import ObjectiveError, SpaceError
from velodrome.resources.slots import Slot
from velodrome.trials import exits, wire
from velodrome.trials.events import (
    EVENTS,
    AttrSet,
    Checkpointed,
    Event,
    Failed,
    GivenBack,
    Lost,
    Noted,
    Preempted,
    Reported,
    Restored,
)
from velodrome.trials.executor import Host, Job, ObjectiveInfo, StudyContext
from velodrome.trials.launcher_client import LauncherClient, kill_group, launcher_failed
from velodrome.trials.objective import ObjectiveSource, PackedObjective
from velodrome.trials.preemption import LAST_CALL, Departure, Step
from velodrome.trials.wire import Message
from velodrome.trials.worker_handle import WorkerHandle
from velodrome.types import Failure, FailureClass

_QUEUED_S = 0.010
"""A worker is given about so many seconds' worth of short trials at once, so that it never waits for the controller."""
_OOM_LOOK_EVERY_S = 1.0
_MAX_FAILED_STARTS = 3
"""So many workers (or launchers) that die in a row before they are ready are no accident."""


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
        self._source, self._slots, self._prefetch = source, slots, prefetch
        self._packed: PackedObjective | None = None
        self._info: ObjectiveInfo | None = None
        self._host: Host | None = None
        self._context: StudyContext | None = None
        self._launcher: LauncherClient | None = None
        self._selector = DefaultSelector()
        self._workers: dict[int, WorkerHandle] = {}
        self._running_at: dict[int, WorkerHandle] = {}
        self._next_key = 0
        self._failed_starts = 0
        self._mean_s: float | None = None
        self._depth = 1
        self._oom_kills, self._oom_looked_at = 0, 0.0

    # --- the executor's contract

    def describe(self) -> ObjectiveInfo:
        """Starts the launcher and the first worker, which loads the objective and describes it."""
        self._look_at_oom_kills()
        self._packed = self._source if isinstance(self._source, PackedObjective) else self._source.pack()
        self._start_launcher()
        self._spawn(self._slots[0])
        while self._info is None:
            self._wait(None)
        return self._info

    def open(self, host: Host, context: StudyContext) -> None:
        """Tells the first worker of the study, and starts the others."""
        self._host, self._context = host, context
        for worker in self._workers.values():
            worker.introduce(context)
        self._spawn_missing()

    def room(self) -> int:
        """One trial per ready worker, a few more where trials are short."""
        depth = self._depth
        return sum(max(0, depth - len(w.jobs)) for w in self._workers.values() if w.takes_jobs)

    def launch(self, job: Job) -> tuple[str, str]:
        """Queues the trial for the least busy worker; it goes out with the next ``poll``."""
        worker = min((w for w in self._workers.values() if w.takes_jobs), key=lambda w: len(w.jobs))
        worker.jobs[job.number] = (job, self._oom_kills)
        self._running_at[job.number] = worker
        worker.wire.queue([(wire.JOB, *job)])
        return worker.name, worker.slot.label

    def stop(self, number: int, reason: str) -> None:
        """Tells the trial's worker at once; a trial that is over stays as it is."""
        if (worker := self._running_at.get(number)) is not None:
            worker.stop(number, reason)

    def preempt(self, number: int, reason: str, grace_s: float) -> None:
        """Takes a trial's place away; one that waits behind another is left alone, for both are short."""
        worker = self._running_at.get(number)
        if worker is not None and worker.running == number and worker.departure is None and not worker.retiring:
            worker.departure = Departure(reason, time.monotonic(), grace_s)
            self._see_off(worker)

    def abandon(self, number: int, event: Event) -> None:
        """Kills the trial's worker, if it runs this trial and none before it; another takes its place."""
        worker = self._running_at.get(number)
        if worker is not None and worker.running == number and not worker.retiring and self._launcher is not None:
            worker.last_word = event
            self._launcher.kill(worker.key)

    def held(self) -> list[Slot]:
        """The slots of all workers that are not known to be dead."""
        return [worker.slot for worker in self._workers.values()]

    def resize(self, slots: Sequence[Slot], reason: str, leave_s: float, grace_s: float) -> None:
        """Starts workers for new slots, and sees off those whose slot is not among them."""
        self._slots, leave_at = list(slots), time.monotonic() + leave_s
        for worker in list(self._workers.values()):
            stays = worker.slot in slots
            if stays and worker.departure is not None and worker.departure.can_be_undone:
                worker.departure = None
            elif not stays and not worker.retiring:
                if worker.departure is None:
                    worker.departure = Departure(reason, leave_at, grace_s)
                elif worker.departure.can_be_undone:
                    worker.departure.tell_at = min(worker.departure.tell_at, leave_at)
                self._see_off(worker)
        self._spawn_missing()

    def poll(self, timeout_s: float) -> None:
        """Sends what is queued, then waits for news."""
        if time.monotonic() - self._oom_looked_at > _OOM_LOOK_EVERY_S:
            self._look_at_oom_kills()
        for worker in self._workers.values():
            if worker.departure is not None:
                self._see_off(worker)
        self._wait(timeout_s)

    def close(self) -> None:
        """Ends the launcher and every worker's process group; gives the unfinished trials back."""
        launcher, self._launcher = self._launcher, None
        all_gone = launcher is None or launcher.close()
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            if worker.pid and not all_gone:
                kill_group(worker.pid)
            self._settle_output(worker)
            worker.close()
        self._selector.close()
        unfinished, self._running_at = self._running_at, {}
        if self._host is not None:
            for number, worker in unfinished.items():
                self._host.happened(GivenBack(number, ran=number == next(iter(worker.jobs))))

    def pids(self) -> list[int]:
        """The process ids of the workers that have started."""
        return [w.pid for w in self._workers.values() if w.pid]

    def fileno(self) -> int:
        """A file descriptor that is readable when ``poll`` has something to do."""
        return self._selector.fileno()

    @property
    def ready(self) -> bool:
        """Whether a worker can be given a trial."""
        return any(w.takes_jobs for w in self._workers.values())

    @property
    def sees_off(self) -> bool:
        """Whether a worker is on its way out: then ``poll`` takes the next step when it is time."""
        return any(w.departure is not None for w in self._workers.values())

    @property
    def depth(self) -> int:
        """How many trials a worker may hold, by how long they take."""
        return self._depth

    @property
    def launcher_pid(self) -> int:
        """The launcher's process id, or 0 while there is none."""
        return self._launcher.pid if self._launcher is not None else 0

    # --- what arrives

    def _wait(self, timeout_s: float | None) -> None:
        for worker in self._workers.values():
            self._flush(worker)
        launcher_spoke = False
        for key, _ in self._selector.select(timeout_s):
            worker_key: int | None = key.data
            if worker_key is None:
                launcher_spoke = True
            elif (known := self._workers.get(worker_key)) is not None:
                self._drain(known)
        if launcher_spoke:
            self._hear_launcher()

    def _flush(self, worker: WorkerHandle) -> None:
        """Sends what is queued; what does not fit goes when the socket has room."""
        if not worker.wire.at_end:
            events = EVENT_READ if worker.wire.flush() else EVENT_READ | EVENT_WRITE
            if self._selector.get_key(worker.wire).events != events:
                self._selector.modify(worker.wire, events, worker.key)

    def _drain(self, worker: WorkerHandle) -> None:
        """Takes in all that a worker has sent."""
        for message in worker.wire.receive():
            self._take(worker, message)
        if worker.wire.at_end:
            self._selector.unregister(worker.wire)

    def _take(self, worker: WorkerHandle, message: Message) -> None:
        host = self._host
        match message[0]:
            case wire.REPORTED if host is not None:
                host.happened(Reported(message[1], message[2], message[3]))
            case wire.DONE:
                self._done(worker, *message[1:])
            case wire.ATTR_SET if host is not None:
                host.happened(AttrSet(*message[1:]))
            case wire.CHECKPOINTED if host is not None:
                host.happened(Checkpointed(*message[1:]))
            case wire.RESTORED if host is not None:
                host.happened(Restored(*message[1:]))
            case wire.NOTED if host is not None:
                host.happened(Noted(*message[1:]))
            case wire.OUTPUT if host is not None:
                _, number, attempt, start, end = message
                host.output(number, attempt, worker.log_path, start, end)
            case wire.ASK_STOP if host is not None:
                self._answer(worker, (wire.ANSWER, host.should_stop(message[1])))
            case wire.ASK_PAUSE if host is not None:
                self._answer(worker, (wire.ANSWER, host.should_pause(message[1])))
            case wire.ASK_PARAM if host is not None:
                self._answer(worker, self._suggested(host, *message[1:]))
            case wire.UNSTARTED:
                self._hand_back(worker, message[1])
            case wire.GPU_PEAK:
                self.gpu_peak_bytes = max(self.gpu_peak_bytes, message[1])
            case wire.READY:
                self._info = message[1]
            case wire.LOG_OPENED:
                _, worker.log_path, worker.log_end = message
                worker.ready = True
                self._failed_starts = 0
            case wire.LOAD_ERROR:
                _, what, given, allowed, hint, text = message
                raise ObjectiveError(what, given=given, allowed=allowed, hint=hint, traceback=text)

    def _done(
        self, worker: WorkerHandle, number: int, kind: str, fields: tuple[object, ...], duration_s: float, log_end: int
    ) -> None:
        """A trial ended, with its worker alive."""
        worker.log_end = log_end
        del worker.jobs[number], self._running_at[number]
        self._learn(duration_s)
        event = EVENTS[kind](*fields)
        if isinstance(event, Failed) and event.failure["kind"] == FailureClass.OOM and self._launcher is not None:
            worker.retiring = True  # what filled the memory may still be held by a library's cache
            self._launcher.kill(worker.key)
        elif worker.departure is not None:
            self._see_off(worker)
        if self._host is not None:
            self._host.happened(event)

    def _learn(self, duration_s: float) -> None:
        """Moves the mean duration of a trial, and with it how many a worker may hold."""
        mean_s = duration_s if self._mean_s is None else 0.8 * self._mean_s + 0.2 * duration_s
        self._mean_s = mean_s
        self._depth = max(1, min(self._prefetch, int(_QUEUED_S / max(mean_s, 1e-6))))

    def _hand_back(self, worker: WorkerHandle, numbers: tuple[int, ...]) -> None:
        """The worker's present trial takes long: what waits behind it can run elsewhere."""
        self._learn(_QUEUED_S * 10)
        for number in numbers:
            del worker.jobs[number], self._running_at[number]
            if self._host is not None:
                self._host.happened(GivenBack(number, ran=False))

    @staticmethod
    def _suggested(host: Host, number: int, name: str, domain: dict[str, object]) -> Message:
        try:
            return (wire.ANSWER, host.suggest(number, name, domain))
        except SpaceError as error:
            return (wire.REFUSAL, error.what, error.given, error.allowed, error.hint)

    def _answer(self, worker: WorkerHandle, answer: Message) -> None:
        worker.wire.queue([answer])
        self._flush(worker)

    # --- births and deaths

    def _start_launcher(self) -> None:
        assert self._packed is not None
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
        taken = self.held()
        for slot in self._slots:
            if slot not in taken:
                self._spawn(slot)

    def _see_off(self, worker: WorkerHandle) -> None:
        """Takes the next step, if it is time, to bring a worker to its end."""
        departure, launcher = worker.departure, self._launcher
        if departure is None or launcher is None:
            return
        match departure.due(time.monotonic(), worker.running):
            case Step.TELL:
                assert departure.number is not None
                worker.preempt(departure.number, departure.reason, LAST_CALL * departure.grace_s)
            case Step.TERMINATE:
                launcher.terminate(worker.key)
            case Step.KILL:
                worker.retiring = worker.running != departure.number
                launcher.kill(worker.key)

    def _hear_launcher(self) -> None:
        launcher = self._launcher
        assert launcher is not None
        for kind, key, value in launcher.receive():
            if kind == wire.STARTED:
                self._workers[key].pid = value
            else:
                self._worker_died(self._workers[key], value)
        if launcher.wire.at_end:
            self._launcher_died(launcher)

    def _worker_died(self, worker: WorkerHandle, status: int) -> None:
        """Says what became of the dead worker's trials, and starts another one in its place."""
        self._bury(worker)
        dump, tail = worker.fault_dump(), worker.log_tail()
        worker.close()
        self._look_at_oom_kills()
        if not worker.ready and worker.departure is None:
            self._count_failed_start(worker, status, dump, tail)
        jobs = list(worker.jobs.values())
        if jobs and not worker.retiring:
            (job, oom_kills), jobs = jobs[0], jobs[1:]
            self._ended(job, self._verdict(worker, exits.of_exit(status, dump, tail, self._oom_kills > oom_kills)))
        self._give_back(jobs)
        self._spawn_missing()

    @staticmethod
    def _verdict(worker: WorkerHandle, verdict: Failure | str) -> Event:
        """What a worker's death means for the trial that it ran, given how the process ended."""
        assert worker.running is not None
        if worker.last_word is not None:
            return worker.last_word
        if worker.departure is not None and worker.departure.number == worker.running:
            return Preempted(worker.running, worker.departure.reason)
        return Lost(worker.running, verdict) if isinstance(verdict, str) else Failed(worker.running, verdict.to_json())

    def _launcher_died(self, launcher: LauncherClient) -> None:
        """Every worker died with it; all are started anew."""
        self._selector.unregister(launcher.wire)
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise launcher_failed(launcher)
        launcher.close()
        workers = list(self._workers.values())
        for worker in workers:
            if worker.pid:
                kill_group(worker.pid)
            self._bury(worker)
            jobs = list(worker.jobs.values())
            for job, _ in jobs[:1]:
                self._ended(job, self._verdict(worker, "the process that starts workers was ended from outside"))
            self._give_back(jobs[1:])
            worker.close()
        self._start_launcher()
        self._spawn_missing()

    def _bury(self, worker: WorkerHandle) -> None:
        """Takes in the dead worker's last messages and output, and forgets it."""
        if not worker.wire.at_end:
            self._drain(worker)
        if not worker.wire.at_end:
            self._selector.unregister(worker.wire)  # a child of the trial, in a session of its own, holds it open
        self._settle_output(worker)
        del self._workers[worker.key]

    def _settle_output(self, worker: WorkerHandle) -> None:
        """Says where the output of a trial lies whose worker can't say it any more."""
        size = worker.log_size()
        if worker.jobs and size > worker.log_end and self._host is not None:
            job, _ = next(iter(worker.jobs.values()))
            self._host.output(job.number, job.attempt, worker.log_path, worker.log_end, size)

    def _ended(self, job: Job, event: Event) -> None:
        """The job's worker died while it ran."""
        del self._running_at[job.number]
        if self._host is not None:
            self._host.happened(event)

    def _give_back(self, jobs: list[tuple[Job, int]]) -> None:
        for job, _ in jobs:
            del self._running_at[job.number]
            if self._host is not None:
                self._host.happened(GivenBack(job.number, ran=False))

    def _count_failed_start(self, worker: WorkerHandle, status: int, dump: str, tail: str) -> None:
        """Raises where the objective's own code, or bad luck that repeats, ends workers while they load it."""
        verdict = exits.of_exit(status, dump, tail, out_of_memory=False)
        self._failed_starts += 1
        if isinstance(verdict, str):
            if self._failed_starts < _MAX_FAILED_STARTS:
                return
            verdict = Failure(FailureClass.LOST, verdict)
        at = f"{verdict.file}:{verdict.line}  {verdict.code}" if verdict.line else self._named()
        raise ObjectiveError(
            f"The worker died while it loaded the objective: {verdict.message}", given=at, traceback=verdict.traceback,
            hint=f"{worker.slot.memory_bytes:,} bytes of memory may be too few" if worker.slot.memory_bytes
            else "import the file by itself to see why",
        )

    def _named(self) -> str:
        return self._source.ref if isinstance(self._source, PackedObjective) else str(self._source.objective)

    def _look_at_oom_kills(self) -> None:
        self._oom_kills, self._oom_looked_at = exits.count_oom_kills(), time.monotonic()
