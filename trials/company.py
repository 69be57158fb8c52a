"""Which trials of a study may be trained together, and how many; learnt from those that failed together.

A death or an error in a process that trains several trials has no owner. So each of them is tried by itself once: the
one whose it is fails then as any trial does. Where memory ran out, it is only that they were too many.
"""

from __future__ import annotations

from collections.abc import Iterable

from velodrome.trials import exits
from velodrome.trials.events import Event, Failed, Lost, Preempted
from velodrome.trials.executor import Job
from velodrome.trials.worker_handle import WorkerHandle
from velodrome.types import Failure, FailureClass

Death = Failure | str
"""What ``exits.of_exit`` makes of a death: whose fault it was, or how the worker was lost."""


class Company:
    """Keeps what is learnt.

    Args:
        size: How many trials a worker is to train together; 1 for one after another.

    Attributes:
        size: How many it may now; 0 where trials are not trained together anyway.
    """

    def __init__(self, size: int = 1) -> None:
        self.size = size if size > 1 else 0
        self._apart: dict[int, str] = {}
        """Trials that are to be trained alone, and why."""

    def placed(self, job: Job) -> Job:
        """The trial, as its worker is to have it."""
        reason = self._apart.get(job.number)
        return job if reason is None else job._replace(apart=reason)

    def shrink(self, size: int) -> None:
        """No more than so many together from now on."""
        self.size = min(self.size, size)

    def part(self, numbers: Iterable[int], reason: str) -> None:
        """These are to be trained alone."""
        self._apart |= dict.fromkeys(numbers, reason)

    def verdict(self, worker: WorkerHandle, number: int, death: Death) -> Event:
        """What a worker's death means for a trial that it ran."""
        count = len(worker.running)
        if (word := worker.last_words.get(number)) is not None:
            return word
        if worker.departure is not None and number in worker.departure.numbers:
            return Preempted(number, worker.departure.reason)
        if worker.last_words:
            return Lost(number, f"trial {next(iter(worker.last_words))}, in the same process, was ended")
        if isinstance(death, str):
            return Lost(number, death)
        if count == 1:
            return Failed(number, death.to_json())
        reason = f"the process that trained it with {count - 1} other{'s' * (count > 2)}: {death.message}"
        if death.kind is FailureClass.OOM:
            self.shrink(max(1, count // 2))
        else:
            self.part([number], reason)
        return Lost(number, reason)


def death_of(worker: WorkerHandle, status: int | None, dump: str, log_tail: str, oom_kills: int) -> Death:
    """How the worker died; without a status, with the launcher.

    Args:
        worker: It ran a trial.
        status: Its exit status, or minus the signal's number.
        dump: The stack that it left behind.
        log_tail: The end of what it printed.
        oom_kills: How many processes the kernel has killed for memory by now.
    """
    if status is None:
        return "the process that starts workers was ended from outside"
    _, before = worker.jobs[worker.running[0]]
    return exits.of_exit(status, dump, log_tail, oom_kills > before)
