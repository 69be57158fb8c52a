"""What a scheduler is: a verdict on a running trial at a report, from what its peers reported before.

The calling loop, inside the pure trial table::

    decision = scheduler.decide(Report(number, step, value, metrics), peers)
    if decision is not None:                # stored in ``decisions`` with its reason
        match decision.action: ...          # continue, pause or stop

and, of one that pauses trials, whenever a place is free::

    match scheduler.turn(peers):
        case Turn.FRESH: ...                # a new trial, with a configuration of the sampler's
        case (number, decision): ...        # that paused trial: promoted, or stopped for good; or a fork of any

A scheduler's state changes in ``decide``, ``forget`` and ``give_up_pausing`` only; it is what was reported and not
forgotten, in order. It must not rest on what it decided: a replay leaves out the reports that were forgotten, so that
a decision may come out differently. Who is paused the table knows, and ``Peers`` tells.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from velodrome.types import Decision, Params, Report

if TYPE_CHECKING:
    import numpy as np

    from velodrome.search.space import Space


class Peers(Protocol):
    """What a scheduler may ask about the study's trials, as they stand now."""

    @property
    def target(self) -> int:
        """How many trials are asked for."""
        ...

    @property
    def num_begun(self) -> int:
        """How many there are so far, finished or not; the next one gets this number."""
        ...

    @property
    def num_active(self) -> int:
        """How many are not finished, with those that are to begin from another's checkpoint."""
        ...

    @property
    def is_ending(self) -> bool:
        """Whether nothing runs and nothing new is to come: what is paused now goes on, or never."""
        ...

    @property
    def has_completed(self) -> bool:
        """Whether any trial has come to its own end."""
        ...

    def is_paused(self, number: int) -> bool:
        """Whether the trial is paused: it has left its worker."""
        ...

    def is_over(self, number: int) -> bool:
        """Whether the trial is finished."""
        ...

    def can_lend(self, number: int) -> bool:
        """Whether the trial has a checkpoint from which another could go on."""
        ...


class Turn(Enum):
    """What a free place is for, where no paused trial is meant."""

    FRESH = "fresh"
    """A new trial."""
    NOTHING = "nothing"
    """It stays free for now."""


class Scheduler(Protocol):
    """Multi-fidelity: which trials are worth going on with."""

    needs_reports: bool
    """Whether reports can change anything: False lets workers run on without asking."""

    @property
    def pauses(self) -> bool:
        """Whether it pauses trials now; such a one is a ``PausingScheduler``."""
        ...

    def decide(self, report: Report, peers: Peers) -> Decision | None:
        """The decision at this report, or None where there is nothing to decide at this step.

        A value that is not finite counts as worse than any other. After a pause it is not asked about the trial until
        that is promoted.
        """
        ...

    def forget(self, number: int, after_step: int | None = None) -> None:
        """Drops what trial ``number`` reported at steps after ``after_step``, or all: it starts again from there."""
        ...


class PausingScheduler(Scheduler, Protocol):
    """One that takes trials from their workers and lets them go on later."""

    without_pauses: str
    """What it does where trials can't be paused, as the end of a sentence."""

    def turn(self, peers: Peers) -> tuple[int, Decision] | Turn:
        """What the next free place is for: a paused trial (to promote, or to stop for good), a new trial, or nothing.

        Also a new trial from the checkpoint of one that goes on: that one's number, and the decision to fork it. It
        changes nothing. Where the study ``is_ending``, what it does not name is stopped for good.
        """
        ...

    def give_up_pausing(self) -> None:
        """The objective makes no checkpoints: from now on trials can't be paused."""
        ...


class ExploringScheduler(PausingScheduler, Protocol):
    """One whose decisions name parents: new trials go on from the checkpoints of others."""

    def explore(self, params: Params, space: Space, rng: np.random.Generator) -> Params:
        """The configuration of a trial that goes on from the checkpoint of one that has ``params``."""
        ...

    def check(self, space: Space) -> None:
        """Does nothing if it can explore the space.

        Raises:
            UsageError: If it can't.
        """
        ...
