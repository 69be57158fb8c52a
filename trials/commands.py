"""What the trial table wants done: commands. They are never stored; each says which event answers it, if any."""

from __future__ import annotations

from typing import Any, NamedTuple

from velodrome.trials.checkpoints import Kept
from velodrome.trials.lending import Fork
from velodrome.trials.live_trial import LiveTrial
from velodrome.types import Decision, Params


class Suggest(NamedTuple):
    """Ask the sampler for trial ``number``; answer with ``Suggested`` or ``Exhausted``.

    With a fork, the scheduler is asked: the trial begins from another's checkpoint.
    """

    number: int
    fork: Fork | None = None


class Launch(NamedTuple):
    """Hand the trial to a worker; answer with ``Launched``."""

    number: int
    attempt: int
    """From 1."""
    params: Params
    checkpoints: tuple[Kept, ...] = ()
    """What it can go on from, the newest first."""
    origin: dict[str, Any] | None = None
    """Where it began from another trial's checkpoint: which one."""
    batch_divisor: int = 1


class Take(NamedTuple):
    """A paused trial's turn has come: store the decision; answer with ``Thawed``, or ``Judged`` and ``Quit``."""

    number: int
    decision: Decision


class GiveUp(NamedTuple):
    """The paused trial will never go on: the study ends; answer with ``Quit``."""

    number: int
    reason: str


class Conclude(NamedTuple):
    """The scheduler wants no more trials; answer with ``Exhausted``."""

    reason: str


class Stop(NamedTuple):
    """Tell the running trial to stop: it is not worth going on with."""

    number: int
    reason: str


class Decide(NamedTuple):
    """Store a scheduler's decision; answer with ``Judged`` where it is to stop or to pause the trial."""

    number: int
    decision: Decision


class GiveUpPausing(NamedTuple):
    """The trial can't be paused, and so no other can: store why; answer with ``NoPausing``."""

    number: int
    reason: str


class Forget(NamedTuple):
    """Drop the trial's stored reports of steps after ``after_step``, or all: it starts again from there."""

    number: int
    after_step: int | None = None


class Discard(NamedTuple):
    """Delete a checkpoint, once the log knows that it is not needed."""

    number: int
    path: str


class Note(NamedTuple):
    """Store what was decided about the trial, and why."""

    number: int
    action: str
    reason: str


class Save(NamedTuple):
    """Store the trial as it now stands."""

    trial: LiveTrial


class Abort(NamedTuple):
    """Stop the study: its first trials all failed alike."""

    reason: str


Command = (
    Suggest | Launch | Take | GiveUp | Conclude | Stop | Decide | GiveUpPausing | Forget | Discard | Note | Save | Abort
)
