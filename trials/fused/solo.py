"""One member that can't be fused, behind the methods of a group."""

from __future__ import annotations

from collections.abc import Sequence

from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.training_job import TrainingJob


class Solo:
    """A group for one, who trains as an ordinary model.

    Args:
        job: What to train.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, job: TrainingJob, device: str = "cpu") -> None:
        self._job, self._device = job, device

    def extend(self, members: Sequence[tuple[Member, MemberState | None]]) -> None:
        """Takes the one member in."""
        [(member, state)] = members
        self._alone, self._number = Alone(self._job, member, self._device), member.number
        if state is not None:
            self._alone.load(state)

    def advance(self) -> list[tuple[int, int]]:
        """Trains until the next report is due: the member's number, and what to report it as."""
        return [(self._number, self._alone.advance())]

    def evaluate(self) -> dict[int, dict[str, float]]:
        """What ``Alone.evaluate`` returns."""
        return {self._number: self._alone.evaluate()}

    def diverged(self) -> dict[int, str]:
        """What ``Alone.diverged`` says, if anything."""
        bad = self._alone.diverged()
        return {self._number: bad} if bad else {}

    def is_done(self, _number: int) -> bool:
        """Whether the training is at its end."""
        return self._alone.is_done

    def state(self, _number: int) -> MemberState:
        """The member's state."""
        return self._alone.state()

    def drop(self, _number: int) -> MemberState:
        """The state that the member leaves with."""
        return self._alone.state()

    def compact(self) -> None:
        """Does nothing: who was alone has left."""
