"""The story of a trial or of a study, as data: what happened, in which line of the user's code, and what to try.

Everything is read from the store; ``velo why`` prints it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from velodrome import advice
from velodrome.owner import Owner
from velodrome.records import StudyRow, TrialRow, trial_id
from velodrome.search.registry import learns
from velodrome.store.reader import Reader
from velodrome.types import Failure, FailureClass, Goal, Params, ParamValue, TrialState

_ENDS = ("returned", "quit", "paused", "failed", "lost", "preempted", "given_back")
_MAX_NUMBERS = 10
"""How many trials of a group are named."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to a trial. ``at`` is in seconds since the epoch."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a metric stopped being a number.

    Attributes:
        metric: The first metric that did.
        step: Where it was reported so; None where only the result was.
        last_step: The last step at which it was still finite; None if it never was.
        last_value: Its value there.
    """

    metric: str
    step: int | None
    last_step: int | None
    last_value: float | None


@dataclass(frozen=True, slots=True)
class TrialStory:
    """What became of a trial.

    Attributes:
        headline: One sentence.
        history: What happened, in order: starts, decisions of the scheduler, ends.
        failure: Why it failed last, also where a later attempt went well.
        divergence: Of a diverged trial: where.
        advice: What to try, one sentence each.
    """

    study: str
    number: int
    state: TrialState
    headline: str
    attempt: int
    params: Params
    history: tuple[Moment, ...]
    failure: Failure | None
    divergence: Divergence | None
    advice: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed trials that failed alike: same class, exception and line. ``numbers`` are the first few of ``count``."""

    count: int
    numbers: tuple[int, ...]
    failure: Failure
    advice: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StudyStory:
    """What became of a study.

    Attributes:
        state: As in the store, or ``died`` where its process is gone without a word.
        headline: One sentence.
        counts: Trials by state.
        groups: The failed trials, the largest group first.
        stops: Trials that the scheduler stopped, by where (``rung 4``).
        lost: How often a worker died; those trials were started again.
        preempted: How often a trial gave its place to another study; those waited again.
    """

    study: str
    state: str
    headline: str
    counts: dict[str, int]
    groups: tuple[FailureGroup, ...]
    stops: dict[str, int]
    lost: int
    preempted: int = 0


def owner_of(row: StudyRow) -> Owner | None:
    """Who runs the study; None where nobody does."""
    return Owner(row.owner_host, row.owner_pid, row.owner_started_at) if row.owner_pid else None


def state_of(row: StudyRow) -> str:
    """The study's state; ``died`` where the store says ``running`` and the process is gone."""
    owner = owner_of(row)
    return "died" if row.state == "running" and (owner is None or not owner.is_alive) else row.state


def trial_story(reader: Reader, study: StudyRow, number: int) -> TrialStory:
    """The story of a trial.

    Raises:
        NotFoundError: If the study has no trial of that number.
    """
    row = reader.trial(study.id, number)
    params = reader.params(row.id)
    failure = _failure(row)
    diverged = failure is not None and failure.kind is FailureClass.DIVERGED
    divergence = _divergence(reader, study, row) if diverged else None
    state = TrialState(row.state)
    tips = _advice(reader, study, failure, params) if failure is not None and state is TrialState.FAILED else ()
    return TrialStory(
        study.name, number, state, _headline(study, row, failure), row.attempt, params,
        tuple(_history(reader, study, number)), failure, divergence, tips,
    )


def study_story(reader: Reader, study: StudyRow) -> StudyStory:
    """The story of a study."""
    counts = reader.counts(study.id)
    _, kinds = reader.query(
        "select kind, count(*) from events where study_id = :study and kind in ('lost', 'preempted') group by kind",
        {"study": study.id},
    )
    counted: dict[str, int] = dict(kinds)
    _, reasons = reader.query(
        "select reason from decisions where study_id = :study and decided_by = 'scheduler' and action = 'stop'",
        {"study": study.id},
    )
    stops = Counter(reason.partition(":")[0] for (reason,) in reasons)
    return StudyStory(
        study.name, state_of(study), _study_headline(study, counts), counts, tuple(_groups(reader, study)),
        dict(stops.most_common()), counted.get("lost", 0), counted.get("preempted", 0),
    )


# --- a trial


def _headline(study: StudyRow, row: TrialRow, failure: Failure | None) -> str:
    metric = Goal.parse(study.goal).metric
    match TrialState(row.state):
        case TrialState.COMPLETED:
            again = f", at attempt {row.attempt}" if row.attempt > 1 else ""
            return f"completed with {metric} {row.value!r}{again}"
        case TrialState.PRUNED:
            value = "" if row.value is None else f" at {metric} {row.value!r}"
            return f"pruned{value}: {row.reason or 'no reason was given'}"
        case TrialState.FAILED:
            return f"failed ({row.failure_class}): {failure.message if failure is not None else 'no reason is known'}"
        case TrialState.RUNNING:
            gone = "" if state_of(study) == "running" else "; its study does not run, and a resume will start it again"
            return f"running, attempt {row.attempt}{gone}"
        case TrialState.PAUSED:
            return f"paused{f': {row.reason}' if row.reason else ''}"
        case TrialState.WAITING:
            return f"waiting to be started{f': {row.reason}' if row.reason else ''}"


def _failure(row: TrialRow) -> Failure | None:
    return Failure.from_json(json.loads(row.failure)) if row.failure else None


def _history(reader: Reader, study: StudyRow, number: int) -> Iterator[Moment]:
    """The events and decisions about a trial as sentences, in order."""
    _, rows = reader.query(
        "select seq, 0, at, kind, data from events where study_id = :study and number = :number "
        "union all select seq, 1, at, decided_by || ' ' || action, reason from decisions "
        "where study_id = :study and trial_id = :trial and action not in ('stop', 'pause', 'promote') order by 1, 2",
        {"study": study.id, "number": number, "trial": trial_id(study.id, number)},
    )
    attempt, runs = 0, False
    for _, is_decision, at, kind, data in rows:
        if is_decision:
            yield Moment(at, f"{kind}: {data}")
            continue
        if kind == "launched":
            attempt += 1
            if runs:
                yield Moment(at, f"attempt {attempt - 1} had no end: the study's own process had died")
        text = _sentence(kind, json.loads(data), attempt)
        if kind == "quit" and not runs:
            text = f"ended while it was paused: {json.loads(data)[0]}"
        runs = kind == "launched" or (runs and kind not in _ENDS)
        if text:
            yield Moment(at, text)


def _sentence(kind: str, data: list[Any], attempt: int) -> str:
    """An event about a trial as a sentence; empty for those that tell nothing."""
    match kind, data:
        case "launched", [worker, device, *_]:
            return f"attempt {attempt} started on {worker} ({device})"
        case "restored", [step, *_]:
            return f"went on from its checkpoint of step {step}" if step is not None else "started from its beginning"
        case "judged", [reason, *rest]:
            return f"told to {'pause' if rest and rest[0] == 'pause' else 'stop'}: {reason}"
        case "paused", _:
            return "paused, and left its worker"
        case "thawed", [reason, *_]:
            return f"promoted: {reason}"
        case "returned", _:
            return "the objective returned"
        case "quit", [reason, *_]:
            return f"the objective gave up: {reason}" if reason else "the objective gave up"
        case "failed", [failure, *_]:
            return f"failed: {failure['message']}"
        case "lost", [message, *_]:
            return f"lost: {message}"
        case "preempted", [reason, *_]:
            return f"gave its place away: {reason}"
        case "given_back", _:
            return "did not get to its end, and waits again"
        case _:
            return ""


def _divergence(reader: Reader, study: StudyRow, row: TrialRow) -> Divergence | None:
    """The metric that was the first to leave the finite numbers."""
    _, reports = reader.query(
        "select name, step, value from metrics where trial_id = :trial order by seq, name", {"trial": row.id}
    )
    finite: dict[str, tuple[int, float]] = {}
    for name, step, value in reports:
        if value is None or not math.isfinite(value):
            last = finite.get(name, (None, None))
            return Divergence(name, step, *last)
        finite[name] = (step, value)
    final: Mapping[str, float | None] = json.loads(row.metrics)
    for name in Goal.parse(study.goal).metrics:
        value = final.get(name, 0.0)
        if value is None or not math.isfinite(value):
            return Divergence(name, None, *finite.get(name, (None, None)))
    return None


def _advice(reader: Reader, study: StudyRow, failure: Failure, params: Params) -> tuple[str, ...]:
    """What to try, with what the completed trials had where a parameter may be to blame."""
    suspects = {name: params[name] for name in advice.suspects(failure.kind, params)}
    ranges: dict[str, tuple[ParamValue, ParamValue]] = {}
    for name in suspects:
        _, rows = reader.query(
            "select min(p.value), max(p.value) from trials t join params p on p.trial_id = t.id and p.name = :name "
            "where t.study_id = :study and t.state = 'completed' having count(*) > 1",
            {"name": name, "study": study.id},
        )
        ranges.update((name, (low, high)) for low, high in rows)
    return tuple(advice.for_failure(failure, suspects, ranges, study.objective, learns=learns(study.sampler)))


# --- a study


def _study_headline(study: StudyRow, counts: Mapping[str, int]) -> str:
    finished = sum(count for state, count in counts.items() if TrialState(state).is_finished)
    so_far = f"{finished} of {study.trials} trials" if study.trials else f"{finished} trials"
    match state_of(study):
        case "running":
            return f"running in process {study.owner_pid} on {study.owner_host}: {so_far} so far"
        case "died":
            return f"died: its process {study.owner_pid} is gone without a word, after {so_far}; velo resume goes on"
        case "finished":
            return f"finished with {so_far}{f': {study.note}' if study.note else ''}"
        case state:
            return f"{state} after {so_far}{f': {study.note}' if study.note else ''}"


def _groups(reader: Reader, study: StudyRow) -> Iterator[FailureGroup]:
    """The failed trials by signature, the largest group first; the first trial of each stands for it."""
    _, rows = reader.query(
        "select number, failure from trials where study_id = :study and state = 'failed' and failure is not null "
        "order by number", {"study": study.id},
    )
    found: dict[str, list[int]] = {}
    examples: dict[str, Failure] = {}
    for number, text in rows:
        failure = Failure.from_json(json.loads(text))
        examples.setdefault(failure.signature, failure)
        found.setdefault(failure.signature, []).append(number)
    for signature, numbers in sorted(found.items(), key=lambda item: -len(item[1])):
        failure = examples[signature]
        params = reader.params(trial_id(study.id, numbers[0]))
        yield FailureGroup(
            len(numbers), tuple(numbers[:_MAX_NUMBERS]), failure, _advice(reader, study, failure, params)
        )
