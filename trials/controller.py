"""One study under control: its table, its log and its sampler, without the loop that runs trials.

``happened`` is the one way in: the event goes through the table, into the log, and the table's commands are carried
out as far as they concern the store or the sampler; the rest is returned to the caller, who has the workers.
``velo.Study.ask``/``tell`` use a controller by hand, the manager drives one with an executor.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, cast

import numpy as np

from velodrome.clock import Clock
from velodrome.records import EventRow, StudyRow
from velodrome.search.domains import domain_from_json
from velodrome.search.history import FINISHED_STATES
from velodrome.search.sampler import Exhausted, Sampler
from velodrome.search.scheduler import ExploringScheduler
from velodrome.seeding import generator
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.commands import Command
from velodrome.trials.events import Event
from velodrome.trials.journal import Journal, Log
from velodrome.trials.lending import Fork
from velodrome.trials.live_trial import LiveTrial
from velodrome.trials.row_json import dumps, with_nan
from velodrome.trials.table import TrialTable
from velodrome.types import Action, Decision, ParamValue, Suggestion, TrialState

_PAGE = 4000
"""How many events a replay reads at once."""
_ASKS = 50
"""How often a sampler is asked again for a configuration that the study had already."""


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
        self.journal = Journal(study, table.goal.direction, log, clock, seq)
        self.committed_finished = table.num_finished
        self.best: tuple[int, float] | None = None
        """Number and value of the best completed trial."""
        self.on_release: Callable[[], None] = _do_nothing
        self._sampler = sampler
        self._can_repeat = table.history.space.cardinality is not None

    # --- events in

    def happened(self, event: Event) -> list[Command]:
        """Takes an event; returns the commands that are the caller's: ``Stop`` and ``Abort``."""
        kind = type(event)
        if kind in _OF_LIVE_TRIALS:
            trial = self.table.live.get(event.number)  # type: ignore[union-attr]  # those kinds have a number
            if trial is None:
                return []  # too late: the trial is finished
            if kind in _WITH_LAST_REPORT:
                event = _with_last_report(event, trial)  # type: ignore[arg-type]  # by its kind
        commands = self.table.handle(event)
        self.journal.happened(event)
        left: list[Command] = []
        for command in commands:
            self._perform(command, left)
        return left

    def next(self) -> cmd.Launch | None:
        """The next trial to launch, new or waiting; None where there is nothing to start now."""
        while True:
            match self.table.next():
                case cmd.Suggest(number, None):
                    self._suggest(number)
                case cmd.Suggest(number, fork) if fork is not None:
                    self._suggest_from(number, fork)
                case cmd.Take(number, decision):
                    self._take(number, decision)
                case cmd.GiveUp(number, reason):
                    self.journal.decision(number, "scheduler", Action.STOP, reason)
                    self.happened(ev.Quit(number, reason))
                case cmd.Conclude(reason):
                    self.happened(ev.Exhausted(reason))
                case cmd.Launch() | None as launch:
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

    def seed_of(self, number: int) -> int:
        """The unfinished trial's own seed."""
        return self.journal.seed_of(number)

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
                    fields = map(with_nan, fields)  # noqa: PLW2901 - the same fields, read
                handle(kinds[kind](number, *fields))
        self.journal.resume({number: suggested_at[number] for number in self.table.live})
        self.committed_finished = self.table.num_finished
        self._note_history()

    # --- commits

    @property
    def commit_in_s(self) -> float | None:
        """Seconds until what is written must be committed; None where nothing waits."""
        return self.journal.commit_in_s

    def commit(self, *, only_if_due: bool = False) -> None:
        """Writes everything that waits in one transaction; after it, nothing of it can be lost.

        Raises:
            StoreError: If it can't be written; it is kept, and the next call tries again.
        """
        if self.journal.commit(only_if_due=only_if_due):
            self.committed_finished = self.table.num_finished

    def close(self, reason: str, state: str) -> None:
        """Lets the study go, in this state; everything is committed."""
        self.happened(ev.Closed(reason))
        self.journal.close(reason, state)
        self.committed_finished = self.table.num_finished

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
        self.journal.attr(number, "parent", dumps(origin))
        changes = ", ".join(f"{name} {was!r} -> {now!r}" for name, (was, now) in origin["changed"].items())
        self.journal.decision(number, "scheduler", "fork", f"goes on from trial {fork.parent}, step {fork.saved.step}: "
                                                    f"{changes or 'nothing changed'}")

    def _take(self, number: int, decision: Decision) -> None:
        """Does with a paused trial what its scheduler has decided."""
        self.journal.decision(number, "scheduler", decision.action, decision.reason)
        if decision.action is Action.PROMOTE:
            self.happened(ev.Thawed(number, decision.reason))
            return
        self.happened(ev.Judged(number, decision.reason, decision.action, decision.parent))
        if decision.action is not Action.FORK:
            self.happened(ev.Quit(number, decision.reason))

    def _suggest_again(self, number: int, suggestion: Suggestion, rng: Any) -> Suggestion:
        """Another suggestion in place of a duplicate; the duplicate where no other is to be had."""
        history = self.table.history
        cardinality = history.space.cardinality
        if cardinality is not None and self.table.roster.next_number < cardinality:
            for _ in range(_ASKS):
                suggestion = self._sampler.suggest(number, history, rng)
                if not history.seen(history.space.key(suggestion.params)):
                    return suggestion
        self.journal.decision(number, "sampler", "duplicate", "every other configuration asked for was tried before")
        return suggestion

    # --- commands

    def _perform(self, command: Command, left: list[Command]) -> None:
        match command:
            case cmd.Save(trial):
                self.journal.changed(trial)
                self._note_best(trial)
            case cmd.Decide(number, decision):
                self.journal.decision(number, "scheduler", decision.action, decision.reason)
                if decision.action is not Action.CONTINUE:
                    left += self.happened(ev.Judged(number, decision.reason, decision.action, decision.parent))
            case cmd.GiveUpPausing(number, reason):
                self.journal.decision(number, "manager", "no pausing", reason)
                self.happened(ev.NoPausing(reason))
            case cmd.Note(number, action, reason):
                self.journal.decision(number, "manager", action, reason)
            case cmd.Forget(number, after_step):
                self.journal.forget_reports(number, after_step)
            case cmd.Discard(number, path):
                self.journal.discard_checkpoint(number, path)
            case _:
                left.append(command)

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

    def _note_best(self, trial: LiveTrial) -> None:
        if trial.state is not TrialState.COMPLETED or trial.values is None:
            return
        value, score = trial.values[0], self.table.goal.direction.score
        if self.best is None or score(value) < score(self.best[1]):
            self.best = (trial.number, value)


_OF_LIVE_TRIALS = frozenset({
    ev.Launched, ev.ParamSuggested, ev.AttrSet, ev.Reported, ev.Checkpointed, ev.Restored, ev.Judged, ev.Paused,
    ev.Thawed, ev.Returned, ev.Quit, ev.Failed, ev.Lost, ev.Preempted, ev.Noted, ev.GivenBack,
})
_WITH_LAST_REPORT = frozenset({ev.Returned, ev.Quit, ev.Checkpointed, ev.Paused})


def _with_last_report(
    event: ev.Returned | ev.Quit | ev.Checkpointed | ev.Paused, trial: LiveTrial
) -> ev.Returned | ev.Quit | ev.Checkpointed | ev.Paused:
    """The event with what the trial reported last, so that the log stands without reports."""
    if trial.step is None:
        return event
    if isinstance(event, ev.Checkpointed):
        return event._replace(metrics=dict(trial.metrics), last_step=trial.step)
    return event._replace(metrics={**trial.metrics, **event.metrics}, step=trial.step)


def _do_nothing(*_: object) -> None:
    return None
