"""What happens to one study, written down: its events as rows of the store, in groups that are committed together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from velodrome.clock import Clock
from velodrome.records import CheckpointRow, DecisionRow, EventRow, MetricRow, StudyRow, TrialRow, trial_id
from velodrome.seeding import trial_seed
from velodrome.trials import events as ev
from velodrome.trials.events import KINDS, Event
from velodrome.trials.live_trial import LiveTrial
from velodrome.trials.row_json import dumps
from velodrome.types import Direction, Metrics, Params

COMMIT_EVERY_S = 0.04


class Log(Protocol):
    """What a journal needs of the store's writer: rows are kept until ``commit`` writes all of them at once."""

    def event(self, row: EventRow) -> None: ...  # noqa: D102
    def trial(self, row: TrialRow) -> None: ...  # noqa: D102
    def params(self, trial_id: int, params: Params) -> None: ...  # noqa: D102
    def metrics(self, rows: list[MetricRow]) -> None: ...  # noqa: D102
    def forget_metrics(self, trial_id: int, after_step: int | None) -> None: ...  # noqa: D102
    def checkpoint(self, row: CheckpointRow) -> None: ...  # noqa: D102
    def discard_checkpoint(self, trial_id: int, path: str) -> None: ...  # noqa: D102
    def decision(self, row: DecisionRow) -> None: ...  # noqa: D102
    def attr(self, trial_id: int, name: str, value: str) -> None: ...  # noqa: D102
    def update_study(self, study_id: int, **columns: Any) -> None: ...  # noqa: D102
    def refresh_study_view(self, study_id: int) -> None: ...  # noqa: D102
    def commit(self, *, durable: bool) -> None: ...  # noqa: D102


class Journal:
    """Keeps a study's rows.

    Args:
        study: The study's row.
        direction: Of the goal's first metric.
        log: The store's writer.
        clock: Stamps the rows and times the commits.
        seq: The number of the last event in the log.
    """

    def __init__(self, study: StudyRow, direction: Direction, log: Log, clock: Clock, seq: int) -> None:
        self.seq = seq
        self.on_discard: Callable[[str], None] = _do_nothing
        """Deletes a checkpoint by its path."""
        self._study, self._direction, self._log, self._clock = study, direction, log, clock
        self._now = clock.now()
        self._facts: dict[int, _Facts] = {}
        self._changed: dict[int, LiveTrial] = {}
        self._discarded: list[str] = []
        self._due_at: float | None = None
        self._durable = False
        self._columns: set[str] = set()
        self._view_is_stale = False

    # --- what happens

    def happened(self, event: Event) -> None:
        """Writes an event; it is the next in the log."""
        self.seq += 1
        self._now = self._clock.now()
        self._make_due()
        if isinstance(event, ev.Reported):
            self._write_report(*event)
            return
        self._durable = True
        self._write_details(event)
        number = getattr(event, "number", None)
        data = event if number is None else event[1:]
        self._log.event(EventRow(self._study.id, self.seq, self._now, KINDS[type(event)], number, dumps(data)))

    def changed(self, trial: LiveTrial) -> None:
        """The trial's row is written with the next commit, as the trial stands then."""
        self._changed[trial.number] = trial
        if trial.state.is_finished:
            self._facts[trial.number].finished_at = self._now

    def decision(self, number: int, by: str, action: str, reason: str) -> None:
        """Writes what was decided about a trial when the last event happened."""
        self._log.decision(DecisionRow(self._study.id, self.seq, self._key(number), self._now, by, action, reason))

    def study_decision(self, by: str, action: str, reason: str) -> None:
        """Writes what is decided now about the study as a whole."""
        self._make_due()
        self._log.decision(DecisionRow(self._study.id, self.seq + 1, None, self._clock.now(), by, action, reason))

    def attr(self, number: int, name: str, value: str) -> None:
        """Writes a fact about a trial, as JSON."""
        self._log.attr(self._key(number), name, value)

    def forget_reports(self, number: int, after_step: int | None) -> None:
        """Drops the trial's reports of steps after ``after_step``, or all."""
        self._log.forget_metrics(self._key(number), after_step)

    def discard_checkpoint(self, number: int, path: str) -> None:
        """Nobody needs the checkpoint: it is deleted once that is committed."""
        self._log.discard_checkpoint(self._key(number), path)
        self._discarded.append(path)

    # --- what it knows of unfinished trials

    def seed_of(self, number: int) -> int:
        """The unfinished trial's own seed."""
        return self._facts[number].seed

    def resume(self, created_at: dict[int, float]) -> None:
        """The study goes on with these unfinished trials; when each was made, in seconds since the epoch."""
        self._facts = {n: _Facts(trial_seed(self._study.seed, n), at) for n, at in created_at.items()}

    # --- commits

    @property
    def commit_in_s(self) -> float | None:
        """Seconds until what is written must be committed; None where nothing waits."""
        return None if self._due_at is None else max(0.0, self._due_at - self._clock.monotonic())

    def commit(self, *, only_if_due: bool = False) -> bool:
        """Writes everything that waits in one transaction, if anything does; after it, nothing of it can be lost.

        Raises:
            StoreError: If it can't be written; it is kept, and the next call tries again.
        """
        if self._due_at is None or (only_if_due and self._clock.monotonic() < self._due_at):
            return False
        for trial in self._changed.values():
            self._log.trial(self._trial_row(trial))
        self._changed = {}
        self._log.commit(durable=self._durable)
        self._due_at, self._durable = None, False
        while self._discarded:  # now, and not before, the log knows that they are not needed
            self.on_discard(self._discarded.pop())
        if self._view_is_stale:
            self._view_is_stale = False
            self._log.refresh_study_view(self._study.id)
        return True

    def close(self, reason: str, state: str) -> None:
        """The study's row says how it ended, and that nobody has it; everything is committed."""
        self._log.update_study(
            self._study.id, state=state, note=reason, owner_host="", owner_pid=0, owner_started_at=0.0
        )
        self._durable = True
        self.commit()

    # --- helpers

    def _key(self, number: int) -> int:
        return trial_id(self._study.id, number)

    def _make_due(self) -> None:
        if self._due_at is None:
            self._due_at = self._clock.monotonic() + COMMIT_EVERY_S

    def _write_report(self, number: int, step: int, metrics: Metrics) -> None:
        key, seq, now = self._key(number), self.seq, self._now
        self._log.metrics([MetricRow(key, name, step, value, seq, now) for name, value in metrics.items()])

    def _write_details(self, event: Event) -> None:
        """The rows besides the event's own."""
        match event:
            case ev.Launched(number):
                self._facts[number].started_at = self._now
            case ev.Suggested(number, params):
                self._facts[number] = _Facts(trial_seed(self._study.seed, number), self._now)
                self._log.params(self._key(number), params)
                self._see(params)
            case ev.ParamSuggested(number, name, _, value):
                self._log.params(self._key(number), {name: value})
                self._see((name,))
            case ev.Returned(_, metrics) | ev.Quit(_, _, metrics):
                self._see(metrics)
            case ev.AttrSet(number, name, value):
                self.attr(number, name, json.dumps(value))
            case ev.Checkpointed(number, step, path, sha256, size_bytes):
                self._log.checkpoint(CheckpointRow(self._key(number), step, path, sha256, size_bytes, self._now))
            case ev.Restored(number, step, skipped):
                then = "went on from its beginning" if step is None else f"went on from that of step {step}"
                for problem in skipped:
                    self.decision(number, "manager", "skip checkpoint", f"{problem}; {then}")
            case ev.Noted(number, by, action, reason):
                self.decision(number, by, action, reason)

    def _see(self, names: Iterable[str]) -> None:
        """Notes new parameters and final metrics, which the study's wide view must show."""
        if not self._columns.issuperset(names):
            self._columns.update(names)
            self._view_is_stale = True

    def _trial_row(self, trial: LiveTrial) -> TrialRow:
        finished = trial.state.is_finished
        facts = self._facts.pop(trial.number) if finished else self._facts[trial.number]
        value = trial.values[0] if trial.values else None
        failure = trial.failure
        return TrialRow(
            self._key(trial.number), self._study.id, trial.number, trial.state.value, trial.attempt, value,
            None if value is None else self._direction.score(value), dumps(trial.metrics) if finished else "{}",
            facts.seed, trial.worker, trial.device, facts.created_at, facts.started_at,
            facts.finished_at, failure.kind.value if failure else None,
            dumps(failure.to_json()) if failure else None, trial.reason or None,
        )


@dataclass(slots=True)
class _Facts:
    """What the store wants to know of an unfinished trial and the table does not: its seed, and when (epoch, s)."""

    seed: int
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None


def _do_nothing(*_: object) -> None:
    return None
