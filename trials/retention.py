"""Which checkpoints of a study stay: while a trial runs its last two, afterwards those of the trials worth keeping.

Two, so that a damaged one costs some steps and not the whole trial. The choice is pure, as the trial table that asks:
replaying the study's log makes it again.
"""

from __future__ import annotations

from typing import NamedTuple

from velodrome.errors import UsageError
from velodrome.types import Goal, Metrics, TrialState

LAST = 2
"""How many a trial has while it is not finished."""


class Saved(NamedTuple):
    """A checkpoint of a trial, with what the trial had reported when it was made."""

    step: int
    path: str
    sha256: str
    metrics: Metrics
    last_step: int | None
    """The step of the last report."""


Dropped = list[tuple[int, Saved]]
"""Checkpoints that go, each with its trial's number."""


class Retention:
    """Decides whose checkpoint stays when a trial finishes.

    Args:
        rule: ``best`` (the best completed trial; with several goals every trial on the Pareto front), a number (the
            best so many by the goal's first metric), ``all`` or ``none``.
        goal: What is better.

    Raises:
        UsageError: If the rule is none of those.
    """

    def __init__(self, rule: str, goal: Goal) -> None:
        if rule not in ("best", "all", "none") and not (rule.isascii() and rule.isdigit()):
            raise UsageError(
                "Which checkpoints to keep is not understood", given=repr(rule),
                allowed="best, all, none, or a number of trials",
            )
        self._all = rule == "all"
        self._front = rule == "best" and not goal.is_single
        self._most = 1 if rule == "best" else int(rule) if rule.isdigit() else 0
        self._goal = goal
        self._kept: list[tuple[tuple[float, ...], int, Saved]] = []
        """Scores (lower is better), number and checkpoint of the best trials so far, best first."""

    def finish(
        self, number: int, state: TrialState, values: tuple[float, ...] | None, checkpoints: tuple[Saved, ...]
    ) -> Dropped:
        """What goes now that the trial is finished: of its own, oldest first, and of another's that it replaces."""
        if not checkpoints:
            return []
        *older, newest = checkpoints
        dropped = [(number, saved) for saved in older]
        if self._all:
            return dropped
        if state is not TrialState.COMPLETED or values is None:
            return [*dropped, (number, newest)]
        scores = tuple(d.score(v) for d, v in zip(self._goal.directions, values, strict=True))
        return dropped + self._place((scores, number, newest))

    def would_keep(self, values: tuple[float, ...]) -> bool:
        """Whether the checkpoint of a trial would stay that completed now with these values."""
        if self._all:
            return True
        scores = tuple(d.score(v) for d, v in zip(self._goal.directions, values, strict=True))
        if self._front:
            return not any(_dominates(kept[0], scores) for kept in self._kept)
        return len(self._kept) < self._most or (self._most > 0 and scores[0] < self._kept[-1][0][0])

    def _place(self, new: tuple[tuple[float, ...], int, Saved]) -> Dropped:
        """Puts a completed trial among the best; what falls out."""
        if self._front:
            if any(_dominates(kept[0], new[0]) for kept in self._kept):
                return [new[1:]]
            beaten = [kept for kept in self._kept if _dominates(new[0], kept[0])]
            self._kept = [*(kept for kept in self._kept if kept not in beaten), new]
            return [kept[1:] for kept in beaten]
        ranked = sorted([*self._kept, new], key=lambda kept: (kept[0][0], kept[1]))
        self._kept = ranked[: self._most]
        return [kept[1:] for kept in ranked[self._most:]]


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))
