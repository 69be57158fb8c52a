"""Trials that are trained together: who sits in the group, and what each does where its report is due.

To its study each is a trial like any other, with its own ``Trial``: what it reports, whether it is stopped, paused,
preempted or saved is its own business, and an exception on the way ends it and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

from velodrome.errors import Diverged
from velodrome.trials.context import Trial
from velodrome.trials.events import Returned
from velodrome.trials.executor import Job
from velodrome.trials.fused.fused import Fused
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.fused.solo import Solo
from velodrome.trials.job_objective import SaveTimer, is_over, wants_checkpoint
from velodrome.trials.running import Ending, ending_by
from velodrome.trials.training_job import TrainingJob

_SOME = 4
"""Rows of trials that have left are freed when they are one in so many: it takes about as long as an epoch's steps."""


@dataclass(slots=True)
class Seat:
    """A trial in a worker.

    Attributes:
        job: As it came.
        trial: Its own.
        member: The trial as the engine knows it.
        timer: Of its checkpoints.
        began_at: By the monotonic clock, in seconds.
        log_start: Where its output begins.
        is_logged: Whether the study knows that.
    """

    job: Job
    trial: Trial
    member: Member
    timer: SaveTimer
    began_at: float
    log_start: int
    is_logged: bool = False


class Newcomer(NamedTuple):
    """A trial that is to join a group, and the state that it goes on from."""

    seat: Seat
    state: MemberState | None


class Group:
    """One model of several trials.

    Args:
        name: For people.
        training: The job.
        engine: What trains them; nobody so far.
        foresee: Asks what the study thinks of several trials (number, whether it is at its end), so that each need not
            ask for itself.
        savers: Where checkpoints are written, side by side: most of their time is waiting for the disk.
    """

    def __init__(
        self, name: str, training: TrainingJob, engine: Fused | Solo,
        foresee: Callable[[Iterable[tuple[int, bool]]], None], savers: Executor,
    ) -> None:
        self.name, self.engine = name, engine
        self.seats: dict[int, Seat] = {}
        self._training, self._foresee, self._savers = training, foresee, savers
        self.first: Sequence[Newcomer] = ()
        """Those who began the group, until it has trained for the first time."""
        self._endings: dict[int, Ending] = {}
        self._num_empty = 0

    @property
    def example(self) -> Member | None:
        """One of the members, for others to be compared with; None where nobody can join."""
        return None if isinstance(self.engine, Solo) else next(seat.member for seat in self.seats.values())

    def join(self, newcomers: Sequence[Newcomer]) -> None:
        """Takes trials in.

        Raises:
            BaseException: What the job's own code raises.
        """
        if not self.seats:
            self.first = newcomers
        self.seats |= {new.seat.job.number: new.seat for new in newcomers}
        self.engine.extend([(new.seat.member, new.state) for new in newcomers])
        self._num_empty = 0
        for new in newcomers:
            number = new.seat.job.number
            if self.engine.is_done(number):  # it was paused, or its worker lost, at its end
                self._endings[number] = Returned(number, {})

    def train(self) -> dict[int, Ending]:
        """Trains until somebody's report is due, and does what is to be done then.

        Returns:
            Those that have left, and how they ended.

        Raises:
            BaseException: What the job's own code raises: it is nobody's in particular.
        """
        engine = self.engine
        if self._endings:
            return self._leave()
        # Train, and look how those stand whose report is due.
        due = dict(engine.advance())
        figures, bad = engine.evaluate(), engine.diverged()
        self.first = ()
        # They report, and the study says what it thinks of that.
        for number, step in due.items():
            self._do(number, _report, step, figures[number], bad.get(number, ""))
        done = {number: engine.is_done(number) for number in self._staying(due)}
        self._foresee(done.items())
        # Who is to be saved is saved, and who is to leave is noted.
        saved = [number for number in done if self._do(number, _wants_checkpoint, done[number])]
        states = {number: engine.state(number).to_dict() for number in saved}
        list(self._savers.map(lambda number: self._do(number, _checkpoint, due[number], states[number]), saved))
        for number in self._staying(done):
            if done[number] or self._do(number, _is_over):
                self._endings[number] = Returned(number, {})
        return self._leave()

    def _leave(self) -> dict[int, Ending]:
        """Takes those out that ended."""
        left, self._endings = self._endings, {}
        for number in left:
            self.engine.drop(number)
        self._num_empty += len(left)
        if self._num_empty * _SOME >= len(self.seats):
            self.engine.compact()
            self._num_empty = 0
        return left

    def _staying(self, numbers: Iterable[int]) -> list[int]:
        return [number for number in numbers if number not in self._endings]

    def _do(self, number: int, action: Callable[..., bool | None], *arguments: object) -> bool:
        """Does something for one trial; what it raises ends that trial."""
        seat = self.seats[number]
        try:
            return bool(action(seat, *arguments))
        except BaseException as error:
            self._endings[number] = ending_by(error, self._training, seat.trial)
            return False


def _report(seat: Seat, step: int, metrics: dict[str, float], bad: str) -> None:
    seat.trial.report(step, metrics)
    if bad:
        raise Diverged(bad)


def _wants_checkpoint(seat: Seat, is_done: bool) -> bool:
    return wants_checkpoint(seat.trial, seat.timer, at_end=is_done or is_over(seat.trial))


def _checkpoint(seat: Seat, step: int, state: dict[str, object]) -> None:
    seat.trial.checkpoint(step, state)


def _is_over(seat: Seat) -> bool:
    return is_over(seat.trial)
