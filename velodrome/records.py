"""The rows of the results store, as the controller hands them to the store's writer.

All are plain named tuples in the order of the table's columns: a record is made once and goes to SQLite as it is.
A trial's id is ``study_id * TRIALS_PER_STUDY + number``, so that no look-up is needed to write a row about a trial.
"""

from __future__ import annotations

from typing import NamedTuple

from velodrome.types import ParamValue

TRIALS_PER_STUDY = 1_000_000_000


def trial_id(study_id: int, number: int) -> int:
    """The key of a trial in every table."""
    return study_id * TRIALS_PER_STUDY + number


class StudyRow(NamedTuple):
    """One study: what was asked for, and who runs it. ``config`` holds every other option as JSON."""

    id: int
    name: str
    state: str
    """``running`` (owned), ``stopped`` (can be resumed), ``finished`` or ``failed`` (stopped by its failures)."""
    goal: str
    seed: int
    trials: int
    """The number of finished trials that was asked for."""
    sampler: str
    scheduler: str
    space: str
    """The search space as JSON."""
    objective: str
    """``path.py:name``, ``module:name``, or a description where it came from Python and can't be loaded again."""
    config: str
    created_at: float
    owner_host: str = ""
    owner_pid: int = 0
    owner_started_at: float = 0.0
    note: str = ""
    """Why the study is in its state, in a sentence, where there is something to say."""


class TrialRow(NamedTuple):
    """One trial as it stands. Of several rows for a trial in one commit, the last wins."""

    id: int
    study_id: int
    number: int
    state: str
    attempt: int
    """How often it was started, from 1; 0 while it waits for its first start."""
    value: float | None
    """The goal's first metric, when completed or pruned."""
    score: float | None
    """``value`` turned so that lower is better; NULL where there is none or it is NaN."""
    metrics: str
    """The final metrics as a JSON object."""
    seed: int
    worker: str
    device: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    failure_class: str | None
    failure: str | None
    """``types.Failure`` as JSON."""
    reason: str | None
    """Why it was pruned, or retried, in a sentence."""


class ParamRow(NamedTuple):
    """One parameter of a trial."""

    trial_id: int
    name: str
    value: ParamValue


class MetricRow(NamedTuple):
    """One figure of one report. NaN is stored as NULL, for SQLite has no NaN."""

    trial_id: int
    name: str
    step: int
    value: float
    seq: int
    """The number of the report's event in its study."""
    at: float


class EventRow(NamedTuple):
    """One event of a study's log, in order. ``seq`` counts from 1 without gaps but for the reports (in ``metrics``)."""

    study_id: int
    seq: int
    at: float
    kind: str
    number: int | None
    """The trial's number, where the event is about one."""
    data: str
    """The rest of the event as a JSON array."""


class DecisionRow(NamedTuple):
    """A choice that the system made by itself, with its reason."""

    study_id: int
    seq: int
    trial_id: int | None
    at: float
    by: str
    """Who decided: ``scheduler``, ``sampler``, ``resources``, ``manager``."""
    action: str
    reason: str


class ArtifactRow(NamedTuple):
    """A file, or a part of one, that belongs to a trial."""

    trial_id: int
    kind: str
    """``log``: what the trial printed."""
    attempt: int
    path: str
    """Relative to the folder that the store is in."""
    start: int
    """First byte of the trial's part."""
    end: int
    """One past its last byte; -1 while it is still being written."""


class CheckpointRow(NamedTuple):
    """A trial's saved state, from which it can go on."""

    trial_id: int
    step: int
    path: str
    """A folder, relative to the one that the store is in."""
    sha256: str
    """Of its manifest, which has those of its files; in hex digits."""
    size_bytes: int
    created_at: float
