"""What can happen to a study (events, past tense) and what the trial table wants done about it (commands).

Events are the study's log: each is one row of ``events`` (a report: rows of ``metrics``), and reading them back in
order rebuilds the table. Commands are never stored. Both are named tuples whose fields are JSON values, so an event
is written as ``json.dumps(event)`` and read as ``EVENTS[kind](*data)``.
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


class Returned(NamedTuple):
    """The objective returned. ``metrics`` holds its result by name; empty where it returned None."""

    number: int
    metrics: Metrics


class Quit(NamedTuple):
    """The objective ended itself as not worth going on with (``Pruned``, ``optuna.TrialPruned``)."""

    number: int
    reason: str


class Failed(NamedTuple):
    """The trial failed; ``failure`` is ``types.Failure`` as JSON."""

    number: int
    failure: dict[str, str | int]


class Lost(NamedTuple):
    """The trial's worker died from outside; the trial is none the worse."""

    number: int
    message: str


class GivenBack(NamedTuple):
    """The trial was handed to a worker and never ran to an end: the study was interrupted, or the worker died first."""

    number: int


class Closed(NamedTuple):
    """The controller let the study go."""

    reason: str


Event = (
    Opened | Suggested | Exhausted | Launched | ParamSuggested | AttrSet | Reported | Returned | Quit | Failed | Lost
    | GivenBack | Closed
)

EVENTS: dict[str, type[Any]] = {
    "opened": Opened, "suggested": Suggested, "exhausted": Exhausted, "launched": Launched,
    "param_suggested": ParamSuggested, "attr_set": AttrSet, "reported": Reported, "returned": Returned,
    "quit": Quit, "failed": Failed, "lost": Lost, "given_back": GivenBack, "closed": Closed,
}
KINDS: dict[type[Any], str] = {cls: kind for kind, cls in EVENTS.items()}


class Suggest(NamedTuple):
    """Ask the sampler for trial ``number``; answer with ``Suggested`` or ``Exhausted``."""

    number: int


class Launch(NamedTuple):
    """Hand the trial to the executor; answer with ``Launched``."""

    number: int
    attempt: int
    seed: int
    params: Params


class Stop(NamedTuple):
    """Tell the running trial to stop: it is not worth going on with."""

    number: int
    reason: str


class Decided(NamedTuple):
    """Store a scheduler's decision."""

    number: int
    action: str
    reason: str


class Forget(NamedTuple):
    """Drop the trial's reports: it starts again from nothing."""

    number: int


class Abort(NamedTuple):
    """Stop the study: its trials all fail alike."""

    reason: str


Command = Suggest | Launch | Stop | Decided | Forget | Abort
