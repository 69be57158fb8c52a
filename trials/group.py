"""Trials that are trained together: who sits in the group, and what each does where its report is due.

To its study each is a trial like any other, with its own ``Trial``: what it reports, whether it is stopped, paused,
preempted or saved is its own business, and an exception on the way ends it and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from velodrome.errors import Diverged
from velodrome.trials.context import Trial
from velodrome.trials.events import Returned
from velodrome.trials.executor import Job
from velodrome.trials.fused.fused import Fused
from velodrome.trials.fused.solo import Solo
from velodrome.trials.job_objective import SaveTimer, is_over, wants_checkpoint
from velodrome.trials.running import Ending, ending_by
from velodrome.trials.training_job import TrainingJob
from velodrome.types import Metrics

_T = TypeVar("_T")


@dataclass(slots=True)
class Seat:
    """A trial in a worker.

    Attributes:
        job: As it came.
        trial: Its own.
        timer: Of its checkpoints.
        began_at: By the monotonic clock, in seconds.
        log_start: Where its output begins.
        is_logged: Whether the study knows that.
    """

    job: Job
    trial: Trial
    timer: SaveTimer
    began_at: float
    log_start: int
    is_logged: bool = False


@dataclass(slots=True)
class Group:
    """One model of several trials.

    Attributes:
        name: For people.
        training: The job.
        engine: What trains them.
        seats: The trials, by number.
        foresee: Asks for the verdicts on several trials at once, so that each need not ask for its own.
        savers: Where checkpoints are written, side by side: most of their time is waiting for the disk.
    """

    name: str
    training: TrainingJob
    engine: Fused | Solo
    seats: dict[int, Seat]
    foresee: Callable[[Iterable[int]], None]
    savers: Executor
    _endings: dict[int, Ending] = field(default_factory=dict)

    def train(self) -> dict[int, Ending]:
        """Trains until somebody's report is due, and does what is to be done then.

        Returns:
            Those that have left, and how they ended.

        Raises:
            BaseException: What the job's own code raises: it is nobody's in particular.
        """
        # Train, and look how those stand whose report is due.
        due = dict(self.engine.advance())
        figures, bad = self.engine.evaluate(due), self.engine.diverged(due)
        # They report; the study says what it thinks of that.
        for number, step in due.items():
            self._of(number, lambda seat, n=number, s=step: _report(seat.trial, s, figures[n], bad.get(n, "")))
        staying = [number for number in due if number not in self._endings]
        self.foresee(staying)
        # Who is to be saved is saved; who is at its end, or not worth going on with, ends.
        ends, saves = {}, []
        for number in staying:
            self._of(number, lambda seat, n=number: self._look(seat, n, ends, saves))
        self._save(saves, due)
        for number in staying:
            if ends.get(number) and number not in self._endings:
                self._endings[number] = Returned(number, {})
        # Those that ended leave.
        left, self._endings = self._endings, {}
        for number in left:
            self.engine.drop(number)
        if left:
            self.engine.compact()
        return left

    def _look(self, seat: Seat, number: int, ends: dict[int, bool], saves: list[int]) -> None:
        """Notes whether the trial ends here, and whether it is saved."""
        ends[number] = is_over(seat.trial) or self.engine.is_done(number)
        if wants_checkpoint(seat.trial, seat.timer, at_end=ends[number]):
            saves.append(number)

    def _save(self, numbers: list[int], steps: Mapping[int, int]) -> None:
        states = {number: self.engine.state(number).to_dict() for number in numbers}

        def save(number: int) -> None:
            self._of(number, lambda seat: seat.trial.checkpoint(steps[number], states[number]))

        list(self.savers.map(save, numbers))

    def _of(self, number: int, do: Callable[[Seat], None]) -> None:
        """Does something for one trial; what it raises ends that trial."""
        seat = self.seats[number]
        try:
            do(seat)
        except BaseException as error:
            self._endings[number] = ending_by(error, self.training, seat.trial)


def _report(trial: Trial, step: int, metrics: Metrics, bad: str) -> None:
    trial.report(step, metrics)
    if bad:
        raise Diverged(bad)
