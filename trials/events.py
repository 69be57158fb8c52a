"""What can happen to a study (events, past tense) and what the trial table wants done about it (commands).

Events are the study's log: each is one row of ``events`` (a report: rows of ``metrics``), and reading them back in
order rebuilds the table. Commands are never stored. Both are named tuples whose fields are JSON values, so an event
is written as ``json.dumps(event)`` and read as ``EVENTS[kind](*data)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from velodrome.trials.checkpoints import Kept
from velodrome.trials.lending import Fork
from velodrome.trials.retention import Saved
from velodrome.types import Decision, Failure, Metrics, Params, ParamValue, TrialState


@dataclass(slots=True)
class Trial:
    """One unfinished trial in the table, or a finished one on its way to the store.

    Attributes:
        number: From 0, without gaps.
        params: Its configuration; grows in a define-by-run trial.
        attrs: The sampler's own notes.
        state: Where it is in its life.
        attempt: How often it was started.
        worker: Who runs it, or ran it last.
        device: Where.
        step: The last step it reported.
        metrics: The last value of each metric it reported; of a finished one the final metrics.
        values: The goal's metrics of a completed trial, or of a pruned one that has them.
        stop_reason: Why a scheduler wants it stopped; empty otherwise.
        stop_step: The step of the report that it was judged by.
        pause_reason: Why a scheduler wants it paused, or has it paused; empty otherwise.
        pause_step: The step of the report that it was judged by.
        origin: Of a trial that began from another's checkpoint: which one (``lending.Fork.origin``).
        losses: How often its worker died.
        errors: How often its objective failed.
        hangs: How often it was ended because nothing was heard of it.
        batch_divisor: By how much its batches are divided, since it ran out of memory: 1, 2, 4, ...
        failure: Why it failed last.
        reason: Why it is in this state, in a sentence, where there is more to say than the state.
        checkpoints: What it can go on from, oldest first.
    """

    number: int
    params: Params
    attrs: dict[str, ParamValue]
    state: TrialState = TrialState.WAITING
    attempt: int = 0
    worker: str = ""
    device: str = ""
    step: int | None = None
    metrics: Metrics = field(default_factory=dict)
    values: tuple[float, ...] | None = None
    stop_reason: str = ""
    stop_step: int | None = None
    pause_reason: str = ""
    pause_step: int | None = None
    origin: dict[str, Any] | None = None
    losses: int = 0
    errors: int = 0
    hangs: int = 0
    batch_divisor: int = 1
    failure: Failure | None = None
    reason: str = ""
    checkpoints: tuple[Saved, ...] = ()


class Opened(NamedTuple):
    """A controller took the study. What an earlier controller left running waits again."""

    target: int
    """How many finished trials are asked for."""


class Suggested(NamedTuple):
    """The sampler gave trial ``number`` its configuration."""

    number: int
    params: Params
    attrs: dict[str, ParamValue]
    origin: dict[str, Any] | None = None
    """Where it begins from another trial's checkpoint: which one (``lending.Fork.origin``)."""


class Exhausted(NamedTuple):
    """The sampler has nothing left."""

    reason: str


class Launched(NamedTuple):
    """The trial was handed to a worker."""

    number: int
    worker: str
    device: str


class ParamSuggested(NamedTuple):
    """A define-by-run trial asked for a parameter and got it."""

    number: int
    name: str
    domain: dict[str, Any]
    """The parameter's domain as JSON."""
    value: ParamValue


class AttrSet(NamedTuple):
    """The objective kept a fact about its trial (Optuna's user attributes). ``value`` is any JSON."""

    number: int
    name: str
    value: Any


class Reported(NamedTuple):
    """The trial reported figures at a step."""

    number: int
    step: int
    metrics: Metrics


class Checkpointed(NamedTuple):
    """The trial's state after a step is on the disk, and the trial can go on from there.

    An executor gives the first five; the controller adds what the trial reported last.
    """

    number: int
    step: int
    path: str
    """Relative to the store's folder."""
    sha256: str
    size_bytes: int
    metrics: Metrics = {}  # noqa: RUF012 - a named tuple's default; nobody changes it
    last_step: int | None = None


class Restored(NamedTuple):
    """A trial that was started again, and had checkpoints, went on from that of ``step``, or from nothing."""

    number: int
    step: int | None
    skipped: list[str]
    """What was wrong with newer checkpoints, a sentence each."""


class Judged(NamedTuple):
    """The scheduler decided that the trial is to stop, or to pause once it has a checkpoint of what it reported."""

    number: int
    reason: str
    action: str = "stop"
    """``stop`` or ``pause``."""
    parent: int | None = None
    """The trial from whose checkpoint another is to go on in this one's place."""


class Paused(NamedTuple):
    """The trial left its worker, to go on from its newest checkpoint one day.

    An executor gives the number; the controller adds what the trial reported last.
    """

    number: int
    metrics: Metrics = {}  # noqa: RUF012 - a named tuple's default; nobody changes it
    step: int | None = None


class Thawed(NamedTuple):
    """The scheduler promoted the paused trial: it waits for a worker."""

    number: int
    reason: str


class Returned(NamedTuple):
    """The objective returned. ``metrics`` holds its result by name; empty where it returned None.

    An executor gives the first two; the controller adds what the trial reported last, so that the log can be read
    without its reports.
    """

    number: int
    metrics: Metrics
    step: int | None = None


class Quit(NamedTuple):
    """The objective ended itself as not worth going on with (``Pruned``, ``optuna.TrialPruned``).

    An executor gives the first two; the controller adds what the trial reported last.
    """

    number: int
    reason: str
    metrics: Metrics = {}  # noqa: RUF012 - a named tuple's default; nobody changes it
    step: int | None = None


class Failed(NamedTuple):
    """The trial failed; ``failure`` is ``types.Failure`` as JSON."""

    number: int
    failure: dict[str, str | int]


class Lost(NamedTuple):
    """The trial's worker died from outside; the trial is none the worse."""

    number: int
    message: str


class Preempted(NamedTuple):
    """The trial gave its place to another study or user, and is none the worse."""

    number: int
    reason: str


class Noted(NamedTuple):
    """The trial's process decided something by itself (its device, its precision); stored as a decision."""

    number: int
    by: str
    action: str
    reason: str


class GivenBack(NamedTuple):
    """The trial was handed to a worker and has no end: the study was interrupted, or another place came free sooner.

    ``ran`` is False where the worker never came to start it, as for a trial that waited behind a long one.
    """

    number: int
    ran: bool = True


class NoPausing(NamedTuple):
    """The objective makes no checkpoints, so the scheduler does without pauses from now on."""

    reason: str


class Closed(NamedTuple):
    """The controller let the study go."""

    reason: str


Event = (
    Opened | Suggested | Exhausted | Launched | ParamSuggested | AttrSet | Reported | Checkpointed | Restored | Judged
    | Paused | Thawed | Returned | Quit | Failed | Lost | Preempted | Noted | GivenBack | NoPausing | Closed
)

EVENTS: dict[str, type[Any]] = {
    "opened": Opened, "suggested": Suggested, "exhausted": Exhausted, "launched": Launched,
    "param_suggested": ParamSuggested, "attr_set": AttrSet, "reported": Reported, "checkpointed": Checkpointed,
    "restored": Restored, "judged": Judged, "paused": Paused, "thawed": Thawed,
    "returned": Returned, "quit": Quit, "failed": Failed, "lost": Lost, "preempted": Preempted, "noted": Noted,
    "given_back": GivenBack, "no_pausing": NoPausing, "closed": Closed,
}
KINDS: dict[type[Any], str] = {cls: kind for kind, cls in EVENTS.items()}


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

    trial: Trial


class Abort(NamedTuple):
    """Stop the study: its first trials all failed alike."""

    reason: str


Command = (
    Suggest | Launch | Take | GiveUp | Conclude | Stop | Decide | GiveUpPausing | Forget | Discard | Note | Save | Abort
)
