"""What is done about trials that fail: how often each kind is started again, and when a study is not worth going on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from velodrome.trials.live_trial import LiveTrial
from velodrome.types import Failure, FailureClass

_NO_RETRY = (FailureClass.LOST, FailureClass.HUNG)
"""These have been started again often enough."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about failures.

    Attributes:
        retries: How often a trial whose objective failed is started again.
        max_losses: How often a trial may lose its worker before it counts as failed, without having come to a later
            checkpoint in between. Losses are nobody's fault, but a trial that takes its worker down every time must
            not run for ever.
        max_hangs: How often a trial of which nothing is heard is started again; not counted among its retries.
        halvings: How often a trial that runs out of memory is started again with half the batch, not counted among its
            retries; 0 where the objective does not know how.
        breaker: The study stops when its first so many trials all fail alike; 0 for never.
        keep_checkpoints: Of which finished trials a checkpoint stays; see ``Retention``.
    """

    retries: int = 0
    max_losses: int = 10
    max_hangs: int = 2
    halvings: int = 0
    breaker: int = 5
    keep_checkpoints: str = "best"


class Again(NamedTuple):
    """A trial that failed is started again."""

    reason: str
    has_halved: bool = False
    """Whether its batches are smaller from now on."""
    from_nothing: bool = False
    """Whether its checkpoints are not to be trusted: they may hold what made it fail."""


def again(trial: LiveTrial, failure: Failure, policy: Policy) -> Again | None:
    """Counts a failure among the trial's; how it is started again, or None where it has failed for good."""
    if failure.kind is FailureClass.HUNG and trial.hangs < policy.max_hangs:
        trial.hangs += 1
        return Again(f"start {trial.hangs + 1} of {policy.max_hangs + 1}: {failure.message}")
    if failure.kind is FailureClass.OOM and trial.batch_divisor < 2**policy.halvings:
        trial.batch_divisor *= 2
        reason = f"its batches are cut into {trial.batch_divisor}, after: {failure.message}"
        return Again(reason, has_halved=True)
    trial.errors += 1
    if trial.errors > policy.retries or failure.kind in _NO_RETRY:
        return None
    reason = f"retry {trial.errors} of {policy.retries} after: {failure.message}"
    return Again(reason, from_nothing=failure.kind is FailureClass.DIVERGED)


class Breaker:
    """Ends a study whose first trials all fail alike.

    Args:
        limit: How many; 0 for a breaker that never trips.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._signatures: list[str] | None = []
        """How the first trials failed; None once it is clear that not all do, or not in one way."""

    def reset(self) -> None:
        """The study was opened again: its first trials are still to come."""
        self._signatures = []

    def trips(self, failure: Failure | None) -> bool:
        """Takes note of a finished trial and its failure, if it failed; whether it was the last that it took."""
        if self._signatures is None or not self._limit:
            return False
        if failure is not None:
            self._signatures.append(failure.signature)
        if failure is None or len(set(self._signatures)) > 1:
            self._signatures = None
            return False
        return len(self._signatures) >= self._limit
