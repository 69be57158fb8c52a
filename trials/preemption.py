"""How a trial gives its place away, and how a worker that must go is brought to its end.

The steps, each only where the one before did not end it: the trial is told, and ends at its next checkpoint (or at a
report, when three quarters of its grace time are over); its process group gets SIGTERM when the grace time is over, and
SIGKILL two seconds later. ``docs/decisions/preemption.md`` says why so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

LAST_CALL = 0.75
"""After this part of its grace time a preempted trial ends at its next report, with or without a new checkpoint."""
KILL_AFTER_S = 2.0
"""How long after SIGTERM the SIGKILL comes."""


class Preemption(NamedTuple):
    """The word that a trial is to give its place to another."""

    reason: str
    last_call_at: float
    """By the monotonic clock, in seconds: a report at this time or later ends the trial."""


class Step(IntEnum):
    """What is done to a worker that must go, in this order."""

    WAIT = 0
    TELL = 1
    TERMINATE = 2
    KILL = 3


@dataclass(slots=True)
class Departure:
    """A worker on its way out. Times are in seconds, by the monotonic clock.

    Attributes:
        reason: Why it must go, for its trial.
        tell_at: When its trial is told, if it still runs then.
        grace_s: How long the trial has then.
        numbers: The trials that were told.
        done: The last step that was taken.
    """

    reason: str
    tell_at: float
    grace_s: float
    numbers: tuple[int, ...] = ()
    done: Step = Step.WAIT

    def due(self, now: float, running: tuple[int, ...]) -> Step:
        """The next step, to be taken now; ``WAIT`` where none is.

        Args:
            now: The time.
            running: The trials that the worker runs; an idle worker is killed at once.
        """
        if self.done is Step.KILL:
            return Step.WAIT
        if not running or (self.numbers and not self.concerns(running)):
            return self._take(Step.KILL)  # those that were told have ended; one behind them has hardly begun
        terminate_at = self.tell_at + self.grace_s
        for step, at in (
            (Step.KILL, terminate_at + KILL_AFTER_S), (Step.TERMINATE, terminate_at), (Step.TELL, self.tell_at)
        ):
            if now >= at and self.done < step <= self.done + 1:
                if step is Step.TELL:
                    self.numbers = running
                return self._take(step)
        return Step.WAIT

    def concerns(self, running: tuple[int, ...]) -> bool:
        """Whether any of the trials was told."""
        return any(number in self.numbers for number in running)

    @property
    def can_be_undone(self) -> bool:
        """Whether the worker may stay after all: nothing has been done to it."""
        return self.done is Step.WAIT

    def _take(self, step: Step) -> Step:
        self.done = step
        return step
