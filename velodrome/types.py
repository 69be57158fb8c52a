"""The words that every part of velodrome shares: states, failure classes, goals, reports, decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from velodrome.errors import UsageError

ParamValue = bool | int | float | str | None
"""One hyperparameter's value: a JSON scalar."""

Params = dict[str, ParamValue]
"""One configuration: flat, by name; a choice's child is called ``choice.child``; inactive ones are absent."""

Metrics = dict[str, float]
"""Named figures of one report or of a finished trial. NaN and infinity are values."""


class TrialState(StrEnum):
    """Where a trial is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def is_finished(self) -> bool:
        """Whether the trial counts towards the number that was asked for."""
        return self in _FINISHED


_FINISHED = frozenset({TrialState.COMPLETED, TrialState.PRUNED, TrialState.FAILED})


class FailureClass(StrEnum):
    """Why a trial failed; the retry policy and the sampler's view go by this."""

    USER = "user"
    """The objective raised, returned what is no result, or ended its own process."""
    OOM = "oom"
    """Out of memory, on the host or on a device."""
    DIVERGED = "diverged"
    """The goal's metric is NaN or infinite."""
    LOST = "lost"
    """The worker or its host died."""
    HUNG = "hung"
    """Nothing was heard of the trial for longer than the limit."""
    PREEMPTED = "preempted"
    """The trial gave its place to another; it waits, and is none the worse."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a trial, in the words of ``velo why``.

    Attributes:
        kind: The failure class.
        message: One line: what happened.
        exception: Qualified name of the exception's type, or ``""`` where none was raised.
        file: The file of the user's code that was running, or ``""``.
        line: Its line, from 1; 0 where unknown.
        code: The text of that line.
        traceback: The user's part of the traceback.
    """

    kind: FailureClass
    message: str
    exception: str = ""
    file: str = ""
    line: int = 0
    code: str = ""
    traceback: str = ""

    @property
    def signature(self) -> str:
        """What two failures share when they are alike: class, exception type and place; the message where it is all."""
        only = self.message if self.kind is FailureClass.USER and not self.exception and not self.file else ""
        return f"{self.kind}|{self.exception}|{self.file}:{self.line}{only}"

    def to_json(self) -> dict[str, str | int]:
        """The failure as JSON."""
        return {
            "kind": str(self.kind), "message": self.message, "exception": self.exception, "file": self.file,
            "line": self.line, "code": self.code, "traceback": self.traceback,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, str | int]) -> Failure:
        """The failure that ``to_json`` wrote."""
        return cls(
            FailureClass(str(data["kind"])), str(data["message"]), str(data["exception"]), str(data["file"]),
            int(data["line"]), str(data["code"]), str(data["traceback"]),
        )


class Direction(StrEnum):
    """Which way is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def score(self, value: float) -> float:
        """The value turned so that lower is better."""
        return value if self is Direction.MINIMIZE else -value


@dataclass(frozen=True, slots=True)
class Goal:
    """What a study looks for: one or more metrics, each with a direction.

    >>> Goal.parse("maximize accuracy")
    Goal(directions=(<Direction.MAXIMIZE: 'maximize'>,), metrics=('accuracy',))
    >>> str(Goal.parse("max accuracy, min params"))
    'maximize accuracy, minimize params'
    """

    directions: tuple[Direction, ...]
    metrics: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Goal:
        """The goal that a text such as ``"maximize accuracy, minimize params"`` means.

        Raises:
            UsageError: If the text is not a list of ``DIRECTION METRIC``.
        """
        words = {"min": Direction.MINIMIZE, "minimize": Direction.MINIMIZE, "minimise": Direction.MINIMIZE,
                 "max": Direction.MAXIMIZE, "maximize": Direction.MAXIMIZE, "maximise": Direction.MAXIMIZE}
        directions, metrics = [], []
        for part in text.split(","):
            match part.split():
                case [word, metric] if word.lower() in words:
                    directions.append(words[word.lower()])
                    metrics.append(metric)
                case _:
                    raise UsageError(
                        "A goal is not understood", given=repr(text),
                        allowed="'maximize METRIC' or 'minimize METRIC', several with commas between",
                        hint="for example: --goal 'maximize accuracy'",
                    )
        if len(set(metrics)) != len(metrics):
            raise UsageError("A goal names a metric twice", given=repr(text), allowed="each metric once")
        return cls(tuple(directions), tuple(metrics))

    def __str__(self) -> str:
        return ", ".join(f"{d} {m}" for d, m in zip(self.directions, self.metrics, strict=True))

    @property
    def metric(self) -> str:
        """The first metric: the one that schedulers and the leaderboard go by."""
        return self.metrics[0]

    @property
    def direction(self) -> Direction:
        """The first metric's direction."""
        return self.directions[0]

    @property
    def is_single(self) -> bool:
        """Whether there is one metric only."""
        return len(self.metrics) == 1

    def values(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The goal's metrics in order.

        Raises:
            KeyError: With the first metric that is missing.
        """
        return tuple(metrics[m] for m in self.metrics)

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """The first metric, lower is better; None where it is missing or NaN."""
        value = metrics.get(self.metric, math.nan)
        return None if math.isnan(value) else self.direction.score(value)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A configuration to try.

    Attributes:
        params: The configuration.
        attrs: What the sampler must know of this trial when it is rebuilt from history: small JSON scalars.
    """

    params: Params
    attrs: dict[str, ParamValue] = field(default_factory=dict)


class Report(NamedTuple):
    """One report of a running trial, as a scheduler sees it."""

    number: int
    step: int
    value: float
    """The goal's first metric, as reported (not turned)."""
    metrics: Metrics = {}  # noqa: RUF012 - a named tuple's default; nobody changes it
    """Those of the goal's metrics that the report has, as reported."""


class Action(StrEnum):
    """What a scheduler wants done with a trial."""

    CONTINUE = "continue"
    PAUSE = "pause"
    """It gives its place free, and waits at its checkpoint until it is promoted."""
    STOP = "stop"
    PROMOTE = "promote"
    """It was paused, and goes on."""
    FORK = "fork"
    """It goes on as it is, and a new trial begins from its checkpoint."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a scheduler decided about a trial, and why; it is stored.

    Attributes:
        action: What is to be done.
        reason: Why, in a sentence.
        parent: Of a trial that is stopped: another one, from whose checkpoint a new trial is to go on in its place.
    """

    action: Action
    reason: str
    parent: int | None = None

    @property
    def stop(self) -> bool:
        """Whether the trial is to end here."""
        return self.action is Action.STOP
