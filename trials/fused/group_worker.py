"""A worker that trains several trials as one model: it takes trials in, trains them together, and lets them go.

One thread, one way::

    jobs that came -> seats -> groups -> reports -> verdicts -> checkpoints -> those that leave

Each group is of one structure (``fused/partition.py``); a trial that fits into none trains by itself. Groups take
turns, from one report to the next.

Trials of a new group that raises before its first report can't be fused: they train by themselves. A group that raises
later is given back, to be trained trial by trial, so that the error finds the one whose it is; one that runs out of
memory, to be trained in halves.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from velodrome.clock import Clock, SystemClock
from velodrome.resources.slots import Slot
from velodrome.trials import failures, wire
from velodrome.trials.context import Trial
from velodrome.trials.events import KINDS
from velodrome.trials.executor import Job, StudyContext
from velodrome.trials.fused import partition
from velodrome.trials.fused.alone import new_model
from velodrome.trials.fused.fused import Fused
from velodrome.trials.fused.group import Group, Newcomer, Seat
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.fused.solo import Solo
from velodrome.trials.job_objective import SaveTimer, member_of
from velodrome.trials.running import Ending, ending_by, seed_libraries, settled
from velodrome.trials.training_job import TrainingJob
from velodrome.trials.wire import Message
from velodrome.trials.worker_link import WorkerLink
from velodrome.trials.worker_log import WorkerLog

_SAVERS = 8
_JOINS_COST = 2.0
"""What joining takes, by what is seen of it: the steps after it are slow as well."""


class GroupWorker:
    """Trains what its link brings, for good.

    Args:
        training: The job that all trials are of.
        context: The study.
        slot: What this worker may use.
        link: To the study's controller.
        log: Of what is printed; a trial's part is all that was printed while it was here.
        clock: Times the turns.
    """

    def __init__(
        self, training: TrainingJob, context: StudyContext, slot: Slot, link: WorkerLink, log: WorkerLog,
        clock: Clock | None = None,
    ) -> None:
        self._training, self._context, self._slot, self._link, self._log = training, context, slot, link, log
        self._waiting: list[Job] = []
        self._groups: list[Group] = []
        self._num_groups = 0
        self._clock = clock or SystemClock()
        self._join_s = self._lost_s = 0.0
        """How long it took when trials joined others, and how much time free places have cost since then."""
        self._savers = ThreadPoolExecutor(_SAVERS, "velodrome-saver")

    def run(self) -> NoReturn:
        """Works until the process is ended."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Takes trials in, waiting where nobody is here, and trains each group up to the next report of one of it."""
        self._take_in()
        started = self._clock.monotonic()
        for group in list(self._groups):
            self._train(group)
        self._lost_s += (self._clock.monotonic() - started) * len(self._waiting) / self._context.group_size
        self._link.flush()

    # --- in

    def _take_in(self) -> None:
        """Seats the trials that came, some at a time: a group that grows is laid out anew.

        So they wait until their free places have cost as much time as their joining will. One that is to be apart waits
        until nobody is here, and gets it all.
        """
        self._waiting += self._link.new_jobs(wait=not self._groups and not self._waiting)
        apart = [job for job in self._waiting if job.apart][:1]
        if not self._waiting or (self._groups and (apart or self._lost_s < _JOINS_COST * self._join_s)):
            return
        jobs = apart or self._waiting
        self._waiting = [job for job in self._waiting if job not in jobs]
        is_first, started = not self._groups, self._clock.monotonic()
        self._seat(jobs, apart[0].apart if apart else "")
        self._lost_s = 0.0
        if not is_first:  # then the data were loaded, and much else was done once
            self._join_s = self._clock.monotonic() - started

    def _seat(self, jobs: list[Job], apart: str) -> None:
        """Begins these trials, each in the group that it fits in; with a reason to be apart, by itself."""
        log_start = self._log.size() if self._groups else self._log.begin()
        self._link.tell((wire.BEGUN, tuple(job.number for job in jobs), log_start))
        newcomers = {job.number: new for job in jobs if (new := self._seated(job)) is not None}
        if apart:
            for new in newcomers.values():
                self._train_alone(new, apart)
            return
        examples = {member.number: group for group in self._groups if (member := group.example) is not None}
        running = [seat.member for group in self._groups for n, seat in group.seats.items() if n in examples]
        for alike in self._partitioned(running, [new.seat.member for new in newcomers.values()]):
            numbers = [member.number for member in alike.members]
            joining = [newcomers[number] for number in numbers if number in newcomers]
            if alike.reason:
                for new in joining:
                    self._train_alone(new, alike.reason)
            elif joining:
                self._join(next((examples[n] for n in numbers if n in examples), None), joining)

    def _seated(self, job: Job) -> Newcomer | None:
        """The trial with its state; None where it ended over that."""
        trial = Trial(job, self._context, self._slot.device, self._link)
        timer = SaveTimer(self._training.checkpoint_s)
        seat = Seat(job, trial, member_of(trial), timer, time.monotonic(), self._log.size())
        seed_libraries(trial.seed)
        try:
            kept = trial.restore()
            new_model(self._training, seat.member, "cpu", None)  # if it raises, then here, where it is its own error
            self._training.optimizer(trial.params)
        except BaseException as error:
            self._say_end(seat, ending_by(error, self._training, trial))
            return None
        return Newcomer(seat, None if kept is None else MemberState.from_dict(kept))

    def _partitioned(self, running: Sequence[Member], new: Sequence[Member]) -> list[partition.Group]:
        """Who of the new can train with whom; all by themselves where that can't be found out."""
        try:
            return partition.partition(self._training, [*running, *new], self._slot.device) if new else []
        except Exception as error:
            return [partition.Group(tuple(new), failures.of_exception(error, self._training).message)]

    def _join(self, group: Group | None, newcomers: list[Newcomer]) -> None:
        """Puts trials into a group, a new one where none is given."""
        if group is None:
            group = self._new_group(Fused(self._training, [], self._slot.device))
        others = len(group.seats) + len(newcomers) - 1
        try:
            group.join(newcomers)
        except BaseException as error:
            self._break_up(group, error)
            return
        for new in newcomers:
            new.seat.trial.note("group", f"{group.name}: one model with {_counted(others)}", by="fusion")

    def _train_alone(self, new: Newcomer, reason: str) -> None:
        """Puts a trial into a group of its own."""
        new.seat.trial.note("train alone", reason, by="fusion")
        group = self._new_group(Solo(self._training, self._slot.device))
        try:
            group.join([new])
        except BaseException as error:
            self._break_up(group, error)

    def _new_group(self, engine: Fused | Solo) -> Group:
        self._num_groups += 1
        name = f"worker-{self._slot.index} group {self._num_groups}"
        group = Group(name, self._training, engine, self._foresee, self._savers)
        self._groups.append(group)
        return group

    # --- one turn

    def _train(self, group: Group) -> None:
        try:
            left = group.train()
        except BaseException as error:
            self._break_up(group, error)
            return
        for number, ending in left.items():
            self._say_end(group.seats.pop(number), ending)
        if not group.seats:
            self._groups.remove(group)
        self._announce_output(group)

    def _foresee(self, ends: Iterable[tuple[int, bool]]) -> None:
        """Asks about the trials of which there may be something to say."""
        self._link.foresee((number, at_end) for number, at_end in ends if at_end or self._context.asks_verdicts)

    def _announce_output(self, group: Group) -> None:
        """Says where the trials' output begins, once there is some."""
        if self._log.grown():
            for number, seat in group.seats.items():
                if not seat.is_logged and self._log.size() > seat.log_start:
                    seat.is_logged = True
                    self._link.tell((wire.OUTPUT, number, seat.job.attempt, seat.log_start, -1))

    # --- out

    def _say_end(self, seat: Seat, ending: Ending) -> None:
        """Tells how a trial ended; it is sent with the others that end now."""
        outcome = settled(ending, seat.trial)
        number, end = seat.job.number, self._log.end()
        messages: list[Message] = []
        if end > seat.log_start:
            messages.append((wire.OUTPUT, number, seat.job.attempt, seat.log_start, end))
        duration_s = time.monotonic() - seat.began_at
        messages.append((wire.DONE, number, KINDS[type(outcome)], tuple(outcome), duration_s, end))
        self._link.keep(*messages)
        self._link.forget(number)

    def _break_up(self, group: Group, error: BaseException) -> None:
        """Sees to the trials of a group that failed, which is nobody's fault in particular."""
        self._groups.remove(group)
        numbers, what = tuple(group.seats), failures.of_exception(error, self._training).message
        if len(numbers) == 1:
            [seat] = group.seats.values()
            self._say_end(seat, ending_by(error, self._training, seat.trial))
        elif failures.is_oom(error):
            self._give_back(numbers, len(numbers) // 2, f"{len(numbers)} trials in one model: {what}")
        elif group.first:  # it never got anywhere: such trials can't be fused
            for new in group.first:
                self._train_alone(new, what)
        else:
            self._give_back(numbers, 1, f"{len(numbers)} trials in one model: {what}")

    def _give_back(self, numbers: tuple[int, ...], size: int, reason: str) -> None:
        self._link.tell((wire.BROKEN_UP, numbers, size, reason))
        for number in numbers:
            self._link.forget(number)


def _counted(others: int) -> str:
    return f"{others} other trial{'' if others == 1 else 's'}"
