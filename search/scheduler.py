"""What a scheduler is: a verdict on a running trial at a report, from what its peers reported before.

The calling loop, inside the pure trial table::

    decision = scheduler.decide(Report(number, step, value))
    if decision is not None:          # stored in ``decisions`` with its reason
        if decision.stop: ...

A scheduler's state changes in ``decide`` and ``forget`` only, and depends on nothing but the order of the calls, so
that replaying a study's reports rebuilds it.
"""

from __future__ import annotations

from typing import Protocol

from velodrome.types import Decision, Report


class Scheduler(Protocol):
    """Multi-fidelity: which trials are worth going on with."""

    needs_reports: bool
    """Whether reports can change anything: False lets workers run on without asking."""

    def decide(self, report: Report) -> Decision | None:
        """The decision at this report, or None where there is nothing to decide at this step.

        A value that is not finite counts as worse than any other.
        """
        ...

    def forget(self, number: int, after_step: int | None = None) -> None:
        """Drops what trial ``number`` reported at steps after ``after_step``, or all: it starts again from there."""
        ...
