"""What can happen to a study: events, in the past tense.

They are the study's log: each is one row of ``events`` (a report: rows of ``metrics``), and reading them back in order
rebuilds the trial table. They are named tuples whose fields are JSON values, so that an event is written as
``json.dumps(event)`` and read as ``EVENTS[kind](*data)``. What the table wants done about them: ``commands.py``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from velodrome.types import Metrics, Params, ParamValue


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
    """The scheduler decided that the trial is to stop; or to pause, once it has a checkpoint of what it reported."""

    number: int
    reason: str
    action: str = "stop"
    """``stop``, ``pause``, or ``fork``: it goes on, and another begins from its checkpoint."""
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
    reason: str = ""
    """Why, where it is neither of these."""


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
