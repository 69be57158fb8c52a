"""One member that can't be fused, behind the methods of a group."""

from __future__ import annotations

from collections.abc import Iterable

from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.training_job import TrainingJob


class Solo:
    """A group of one, trained as an ordinary model; nobody else can join.

    Args:
        job: What to train.
        member: Whose parameters and seed.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, job: TrainingJob, member: Member, device: str = "cpu") -> None:
        self._alone, self._number = Alone(job, member, device), member.number

    def advance(self) -> list[tuple[int, int]]:
        """Trains until the next report is due: the member's number, and what to report it as."""
        return [(self._number, self._alone.advance())]

    def evaluate(self, _numbers: Iterable[int]) -> dict[int, dict[str, float]]:
        """What ``Alone.evaluate`` returns."""
        return {self._number: self._alone.evaluate()}

    def diverged(self, _numbers: Iterable[int]) -> dict[int, str]:
        """What ``Alone.diverged`` says, if anything."""
        bad = self._alone.diverged()
        return {self._number: bad} if bad else {}

    def is_done(self, _number: int) -> bool:
        """Whether the training is at its end."""
        return self._alone.is_done

    def state(self, _number: int) -> MemberState:
        """The member's state."""
        return self._alone.state()

    def load(self, _number: int, state: MemberState) -> None:
        """Goes on from a state."""
        self._alone.load(state)

    def drop(self, _number: int) -> MemberState:
        """The state that the member leaves with."""
        return self._alone.state()

    def compact(self) -> None:
        """Does nothing: who was alone has left."""
