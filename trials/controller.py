"""One study under control: its table, its log and its sampler, without the loop that runs trials.

``happened`` is the one way in: the event goes through the table, into the log, and the table's commands are carried
out as far as they concern the store or the sampler; the rest is returned to the caller, who has the workers.
``velo.Study.ask``/``tell`` use a controller by hand, the manager drives one with an executor.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np

from velodrome.clock import Clock
from velodrome.records import CheckpointRow, DecisionRow, EventRow, MetricRow, StudyRow, TrialRow, trial_id
from velodrome.search.domains import domain_from_json
from velodrome.search.history import FINISHED_STATES
from velodrome.search.sampler import Exhausted, Sampler
from velodrome.search.scheduler import ExploringScheduler
from velodrome.seeding import generator, trial_seed
from velodrome.trials import events as ev
from velodrome.trials.events import KINDS, Command, Event, Trial
from velodrome.trials.lending import Fork
from velodrome.trials.table import TrialTable
from velodrome.types import Action, Decision, Params, ParamValue, Suggestion, TrialState

COMMIT_EVERY_S = 0.04
_PAGE = 4000
"""How many events a replay reads at once."""
_ASKS = 50
"""How often a sampler is asked again for a configuration that the study had already."""


class Log(Protocol):
    """What a controller needs of the store's writer: rows are kept until ``commit`` writes all of them at once."""

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


class Controller:
    """Keeps one study.

    Args:
        study: The study's row.
        table: Its trial table: empty, or brought up to date by ``replay``.
        sampler: Suggests configurations.
        log: The store's writer.
        clock: Stamps the log and times the commits.
        seq: The number of the last event in the log.
    """

    def __init__(
        self, study: StudyRow, table: TrialTable, sampler: Sampler, log: Log, clock: Clock, seq: int = 0
    ) -> None:
        self.study = study
        self.table = table
        self.clock = clock
        self.committed_finished = table.num_finished
        self.best: tuple[int, float] | None = None
        self._sampler = sampler
        self.seq = seq
        self.on_release: Callable[[], None] = _do_nothing
        self.on_discard: Callable[[str], None] = _do_nothing
        """Deletes a checkpoint by its path."""
        self._discarded: list[str] = []
        self._log = log
        self._now = clock.now()
        self._facts: dict[int, _Facts] = {}
        self._changed: dict[int, Trial] = {}
        self._due_at: float | None = None
        self._durable = False
        self._columns: set[str] = set()
        self._view_is_stale = False
        self._can_repeat = table.history.space.cardinality is not None

    # --- events in

    def happened(self, event: Event) -> list[Command]:
        """Takes an event; returns the commands that are the caller's: ``Stop`` and ``Abort``."""
        self._now = self.clock.now()
        if self._due_at is None:
            self._due_at = self.clock.monotonic() + COMMIT_EVERY_S
        kind = type(event)
        if kind in _OF_LIVE_TRIALS:
            trial = self.table.live.get(event.number)  # type: ignore[union-attr]  # those kinds have a number
            if trial is None:
                return []  # too late: the trial is finished
            if kind in _WITH_LAST_REPORT:
                event = _with_last_report(event, trial)  # type: ignore[arg-type]  # by its kind
        commands = self.table.handle(event)
        self.seq += 1
        if kind is ev.Reported:
            self._write_report(event)  # type: ignore[arg-type]  # by its kind
        else:
            self._write(event)
        left: list[Command] = []
        for command in commands:
            self._perform(command, left)
        return left

    def next(self) -> ev.Launch | None:
        """The next trial to launch, new or waiting; None where there is nothing to start now."""
        while True:
            match self.table.next():
                case ev.Suggest(number, None):
                    self._suggest(number)
                case ev.Suggest(number, fork) if fork is not None:
                    self._suggest_from(number, fork)
                case ev.Take(number, decision):
                    self._take(number, decision)
                case ev.GiveUp(number, reason):
                    self._decision(number, "scheduler", Action.STOP, reason)
                    self.happened(ev.Quit(number, reason))
                case ev.Conclude(reason):
                    self.happened(ev.Exhausted(reason))
                case ev.Launch() | None as launch:
                    return launch
                case other:
                    raise AssertionError(other)

    def suggest_param(self, number: int, name: str, domain: dict[str, Any]) -> ParamValue:
        """The value of a parameter that a define-by-run trial asks for; the same for the same name.

        Raises:
            SpaceError: If the domain contradicts what the study asked for before under that name.
        """
        trial = self.table.live[number]
        if name in trial.params:
            return trial.params[name]
        rng = generator(self.study.seed, "suggest", number, name)
        history = self.table.history
        value = self._sampler.suggest_param(number, name, domain_from_json(domain, name), history, rng)
        self.happened(ev.ParamSuggested(number, name, domain, value))
        return value

    def decided(self, by: str, action: str, reason: str) -> None:
        """Stores a decision about the study as a whole; it is written with the next commit."""
        if self._due_at is None:
            self._due_at = self.clock.monotonic() + COMMIT_EVERY_S
        self._log.decision(DecisionRow(self.study.id, self.seq + 1, None, self.clock.now(), by, action, reason))

    def seed_of(self, number: int) -> int:
        """The unfinished trial's own seed."""
        return self._facts[number].seed

    # --- resume

    def replay(self, rows: Iterator[EventRow]) -> None:
        """Brings the empty table up to date with the study's log.

        The commands are dropped: they were carried out when the log was written.
        """
        kinds, handle, suggested_at = ev.EVENTS, self.table.handle, array("d")
        while page := list(islice(rows, _PAGE)):
            data = json.loads(f"[{','.join([row.data for row in page])}]")  # many at once: half the time
            for (_, _, at, kind, number, _), fields in zip(page, data, strict=True):
                if number is None:
                    handle(kinds[kind](*fields))
                    continue
                if kind == "suggested":
                    suggested_at.append(at)  # by number: numbers have no gaps
                elif kind in ("returned", "quit", "checkpointed", "paused"):
                    fields = map(_with_nan, fields)  # noqa: PLW2901 - the same fields, read
                handle(kinds[kind](number, *fields))
        self._facts = {
            number: _Facts(trial_seed(self.study.seed, number), suggested_at[number]) for number in self.table.live
        }
        self.committed_finished = self.table.num_finished
        self._note_history()

    # --- commits

    @property
    def commit_in_s(self) -> float | None:
        """Seconds until what is written must be committed; None where nothing waits."""
        return None if self._due_at is None else max(0.0, self._due_at - self.clock.monotonic())

    def commit(self, *, only_if_due: bool = False) -> None:
        """Writes everything that waits in one transaction; after it, nothing of it can be lost.

        Raises:
            StoreError: If it can't be written; it is kept, and the next call tries again.
        """
        if self._due_at is None or (only_if_due and self.clock.monotonic() < self._due_at):
            return
        for trial in self._changed.values():
            self._log.trial(self._trial_row(trial))
        self._changed = {}
        self._log.commit(durable=self._durable)
        self._due_at, self._durable = None, False
        while self._discarded:  # now, and not before, the log knows that they are not needed
            self.on_discard(self._discarded.pop())
        self.committed_finished = self.table.num_finished
        if self._view_is_stale:
            self._view_is_stale = False
            self._log.refresh_study_view(self.study.id)

    def close(self, reason: str, state: str) -> None:
        """Lets the study go, in this state; everything is committed."""
        self.happened(ev.Closed(reason))
        self._log.update_study(
            self.study.id, state=state, note=reason, owner_host="", owner_pid=0, owner_started_at=0.0
        )
        self._durable = True
        self.commit()

    def release(self) -> None:
        """Frees what the controller was given for itself."""
        self.on_release()

    # --- the sampler

    def _suggest(self, number: int) -> None:
        """Asks the sampler until it has something that the study has not seen, and takes note of it."""
        history = self.table.history
        rng = generator(self.study.seed, "suggest", number)
        try:
            suggestion = self._sampler.suggest(number, history, rng)
            if self._can_repeat and history.seen(history.space.key(suggestion.params)):
                suggestion = self._suggest_again(number, suggestion, rng)
        except Exhausted as end:
            self.happened(ev.Exhausted(str(end)))
            return
        self.happened(ev.Suggested(number, suggestion.params, suggestion.attrs))

    def _suggest_from(self, number: int, fork: Fork) -> None:
        """The scheduler's configuration for a trial that goes on from another's checkpoint."""
        scheduler = cast(ExploringScheduler, self.table.scheduler)
        rng = generator(self.study.seed, "explore", number)
        params = scheduler.explore(fork.params, self.table.history.space, rng)
        origin = fork.origin(params)
        self.happened(ev.Suggested(number, params, {}, origin))
        self._log.attr(trial_id(self.study.id, number), "parent", _dumps(origin))
        changes = ", ".join(f"{name} {was!r} -> {now!r}" for name, (was, now) in origin["changed"].items())
        self._decision(number, "scheduler", "fork", f"goes on from trial {fork.parent}, step {fork.saved.step}: "
                                                    f"{changes or 'nothing changed'}")

    def _take(self, number: int, decision: Decision) -> None:
        """Does with a paused trial what its scheduler has decided."""
        self._decision(number, "scheduler", decision.action, decision.reason)
        if decision.action is Action.PROMOTE:
            self.happened(ev.Thawed(number, decision.reason))
        else:
            self.happened(ev.Judged(number, decision.reason, decision.action, decision.parent))
            self.happened(ev.Quit(number, decision.reason))

    def _suggest_again(self, number: int, suggestion: Suggestion, rng: Any) -> Suggestion:
        """Another suggestion in place of a duplicate; the duplicate where no other is to be had."""
        history = self.table.history
        cardinality = history.space.cardinality
        if cardinality is not None and self.table.next_number < cardinality:
            for _ in range(_ASKS):
                suggestion = self._sampler.suggest(number, history, rng)
                if not history.seen(history.space.key(suggestion.params)):
                    return suggestion
        self._decision(number, "sampler", "duplicate", "every other configuration asked for was tried before")
        return suggestion

    # --- the log

    def _write_report(self, event: ev.Reported) -> None:
        number, step, metrics = event
        key, seq, now = trial_id(self.study.id, number), self.seq, self._now
        self._log.metrics([MetricRow(key, name, step, value, seq, now) for name, value in metrics.items()])

    def _write(self, event: Event) -> None:
        self._durable = True
        study_id = self.study.id
        match event:
            case ev.Launched(number):
                self._facts[number].started_at = self._now
            case ev.Suggested(number, params):
                self._facts[number] = _Facts(trial_seed(self.study.seed, number), self._now)
                self._log.params(trial_id(study_id, number), params)
                self._see(params)
            case ev.ParamSuggested(number, name, _, value):
                self._log.params(trial_id(study_id, number), {name: value})
                self._see((name,))
            case ev.Returned(_, metrics) | ev.Quit(_, _, metrics):
                self._see(metrics)
            case ev.AttrSet(number, name, value):
                self._log.attr(trial_id(study_id, number), name, json.dumps(value))
            case ev.Checkpointed(number, step, path, sha256, size_bytes):
                key = trial_id(study_id, number)
                self._log.checkpoint(CheckpointRow(key, step, path, sha256, size_bytes, self._now))
            case ev.Restored(number, step, skipped):
                then = "went on from its beginning" if step is None else f"went on from that of step {step}"
                for problem in skipped:
                    self._decision(number, "manager", "skip checkpoint", f"{problem}; {then}")
            case ev.Noted(number, by, action, reason):
                self._decision(number, by, action, reason)
        self._log.event(_row(study_id, self.seq, self._now, event))

    def _see(self, names: Any) -> None:
        """Notes new parameters and final metrics, which the study's wide view must show."""
        if not self._columns.issuperset(names):
            self._columns.update(names)
            self._view_is_stale = True

    def _perform(self, command: Command, left: list[Command]) -> None:
        match command:
            case ev.Save(trial):
                self._changed[trial.number] = trial
                if trial.state.is_finished:
                    self._facts[trial.number].finished_at = self._now
                    self._note_best(trial)
            case ev.Decide(number, decision):
                self._decision(number, "scheduler", decision.action, decision.reason)
                if decision.action is not Action.CONTINUE:
                    left += self.happened(ev.Judged(number, decision.reason, decision.action, decision.parent))
            case ev.GiveUpPausing(number, reason):
                self._decision(number, "manager", "no pausing", reason)
                self.happened(ev.NoPausing(reason))
            case ev.Note(number, action, reason):
                self._decision(number, "manager", action, reason)
            case ev.Forget(number, after_step):
                self._log.forget_metrics(trial_id(self.study.id, number), after_step)
            case ev.Discard(number, path):
                self._log.discard_checkpoint(trial_id(self.study.id, number), path)
                self._discarded.append(path)
            case _:
                left.append(command)

    def _decision(self, number: int, by: str, action: str, reason: str) -> None:
        key = trial_id(self.study.id, number)
        self._log.decision(DecisionRow(self.study.id, self.seq, key, self._now, by, action, reason))

    def _trial_row(self, trial: Trial) -> TrialRow:
        finished = trial.state.is_finished
        facts = self._facts.pop(trial.number) if finished else self._facts[trial.number]
        value = trial.values[0] if trial.values else None
        failure = trial.failure
        return TrialRow(
            trial_id(self.study.id, trial.number), self.study.id, trial.number, trial.state.value, trial.attempt, value,
            None if value is None else self.table.goal.direction.score(value),
            _dumps(trial.metrics) if finished else "{}",
            facts.seed, trial.worker, trial.device, facts.created_at, facts.started_at,
            facts.finished_at, failure.kind.value if failure else None,
            _dumps(failure.to_json()) if failure else None, trial.reason or None,
        )

    def _note_history(self) -> None:
        """Finds the best among the trials that were finished before."""
        history = self.table.history
        if not len(history):
            return
        values = history.values[:, 0]
        completed = np.isfinite(values) & (history.states == FINISHED_STATES.index(TrialState.COMPLETED))
        if completed.any():
            scores = np.where(completed, values * self.table.goal.direction.score(1.0), np.inf)
            index = int(np.argmin(scores))
            self.best = (int(history.numbers[index]), float(values[index]))

    def _note_best(self, trial: Trial) -> None:
        if trial.state is not TrialState.COMPLETED or trial.values is None:
            return
        value, score = trial.values[0], self.table.goal.direction.score
        if self.best is None or score(value) < score(self.best[1]):
            self.best = (trial.number, value)


@dataclass(slots=True)
class _Facts:
    """What the store wants to know of an unfinished trial and the table does not: its seed, and when (epoch, s)."""

    seed: int
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None


_OF_LIVE_TRIALS = frozenset({
    ev.Launched, ev.ParamSuggested, ev.AttrSet, ev.Reported, ev.Checkpointed, ev.Restored, ev.Judged, ev.Paused,
    ev.Thawed, ev.Returned, ev.Quit, ev.Failed, ev.Lost, ev.Preempted, ev.Noted, ev.GivenBack,
})
_WITH_LAST_REPORT = frozenset({ev.Returned, ev.Quit, ev.Checkpointed, ev.Paused})


def _with_last_report(
    event: ev.Returned | ev.Quit | ev.Checkpointed | ev.Paused, trial: Trial
) -> ev.Returned | ev.Quit | ev.Checkpointed | ev.Paused:
    """The event with what the trial reported last, so that the log stands without reports."""
    if trial.step is None:
        return event
    if isinstance(event, ev.Checkpointed):
        return event._replace(metrics=dict(trial.metrics), last_step=trial.step)
    return event._replace(metrics={**trial.metrics, **event.metrics}, step=trial.step)


def _do_nothing(*_: object) -> None:
    return None


def _row(study_id: int, seq: int, at: float, event: Event) -> EventRow:
    number = getattr(event, "number", None)
    data = event if number is None else event[1:]
    return EventRow(study_id, seq, at, KINDS[type(event)], number, _dumps(data))


def _dumps(value: Any) -> str:
    """JSON that SQLite can read: NaN as null, infinities as a number too large for a float."""
    try:
        return _encode(value)
    except ValueError:
        return _encode(_finite(value)).replace(f'"{_HUGE}"', "1e999").replace(f'"-{_HUGE}"', "-1e999")


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_HUGE = "\ue000infinity"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else _HUGE if value > 0 else f"-{_HUGE}"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _with_nan(field: Any) -> Any:
    """Metrics as they were before ``_dumps`` wrote null for NaN."""
    if not isinstance(field, dict) or None not in field.values():
        return field
    return {k: math.nan if v is None else v for k, v in field.items()}
