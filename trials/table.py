"""The trial table: the pure heart of a study. Events go in, commands come out; no I/O, no clock, no chance.

Everything that a study knows is here: its unfinished trials, its history, its scheduler's rungs. Reading a study's
log through ``handle`` (and dropping the commands) rebuilds it, so a resume is a replay.

The life of a trial::

    Suggested -> WAITING -> Launched -> RUNNING -> Returned -> COMPLETED, PRUNED (if told to stop), FAILED (NaN)
                    ^                      |-----> Quit     -> PRUNED
                    |                      |-----> Failed   -> FAILED, or again if retries are left
                    +--- Lost, Preempted, -+-----> Paused   -> PAUSED -> Quit -> PRUNED
                    |    GivenBack                               |
                    +--- Thawed <--------------------------------+

A trial that is started again goes on from its last checkpoint where it has one (``Checkpointed``, ``Restored``): what
it had reported up to there stays, in its rows and in the scheduler.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from velodrome.search.domains import domain_from_json
from velodrome.search.history import History
from velodrome.search.scheduler import PausingScheduler, Scheduler, Turn
from velodrome.trials import events as ev
from velodrome.trials.checkpoints import Kept
from velodrome.trials.events import Command, Event, Trial
from velodrome.trials.lending import Fork, Lending
from velodrome.trials.retention import LAST, Retention, Saved
from velodrome.types import Action, Failure, FailureClass, Report, Suggestion, TrialState


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about failures.

    Attributes:
        retries: How often a trial whose objective failed is started again.
        max_losses: How often a trial may lose its worker before it counts as failed. Losses are nobody's fault, but
            a trial that takes its worker down every time must not run for ever.
        max_hangs: How often a trial of which nothing is heard is started again; not counted among its retries.
        halvings: How often a trial that runs out of memory is started again with half the batch, not counted among its
            retries; 0 where the objective does not know how.
        breaker: The study stops when its first so many trials all fail alike; 0 for never.
        keep_checkpoints: Of which finished trials a checkpoint stays; see ``Retention``.
    """

    retries: int = 0
    max_losses: int = 10
    max_hangs: int = 2
    halvings: int = 0
    breaker: int = 5
    keep_checkpoints: str = "best"


class TrialTable:
    """All trials of one study; to its scheduler it is the ``Peers``.

    Args:
        history: Where finished trials go; empty at first.
        scheduler: Judges reports.
        policy: What is done about failures.
    """

    def __init__(self, history: History, scheduler: Scheduler, policy: Policy) -> None:
        self.history = history
        self.goal = history.goal
        self.scheduler = scheduler
        self.policy = policy
        self._retention = Retention(policy.keep_checkpoints, self.goal)
        self.target = 0
        self.next_number = 0
        self.exhausted = ""
        self.aborted = ""
        self.remark = ""
        """What had to be done in another way than was asked for; empty where nothing had."""
        self.live: dict[int, Trial] = {}
        self.counts = dict.fromkeys(TrialState, 0)
        self._breaker: list[str] | None = []
        self._pausing = cast(PausingScheduler, scheduler) if scheduler.pauses else None
        self._queue: list[int] = []
        """The numbers of the waiting trials as a heap, and of some that wait no more."""
        self._forks: list[Fork] = []
        self._lending = Lending()
        self._has_checkpoints = self._has_paused = False
        self._handlers: dict[type[Any], Callable[[Any], list[Command]]] = {
            ev.Opened: self._opened, ev.Suggested: self._suggested, ev.Exhausted: self._exhausted,
            ev.Launched: self._launched, ev.ParamSuggested: self._param_suggested, ev.AttrSet: _nothing,
            ev.Reported: self._reported, ev.Checkpointed: self._checkpointed, ev.Restored: self._restored,
            ev.Judged: self._judged, ev.Paused: self._paused, ev.Thawed: self._thawed,
            ev.Returned: self._returned, ev.Quit: self._quit, ev.Failed: self._failed, ev.Lost: self._lost,
            ev.Preempted: self._preempted, ev.Noted: _nothing, ev.GivenBack: self._given_back,
            ev.NoPausing: self._no_pausing, ev.Closed: _nothing,
        }

    @property
    def num_finished(self) -> int:
        """How many trials count as done."""
        return len(self.history)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.aborted) or (not self.live and (self.next_number >= self.target or bool(self.exhausted)))

    def next(self) -> ev.Launch | ev.Suggest | ev.Take | ev.GiveUp | ev.Conclude | None:
        """What to do with a free place: start a trial that waits, ask for a new one, or nothing.

        With a scheduler that pauses, also what becomes of a paused trial; ask again when that is done.
        """
        if self.aborted:
            return None
        if (trial := self._first_waiting()) is not None:
            kept = tuple(Kept(c.step, c.path, c.sha256) for c in reversed(trial.checkpoints))
            return ev.Launch(
                trial.number, trial.attempt + 1, trial.params, kept, trial.origin, trial.batch_divisor
            )
        return self._next_turn(self._pausing) if self._pausing is not None else self._fresh()

    def handle(self, event: Event) -> list[Command]:
        """Takes an event and returns what is to be done about it, in order.

        A message about a trial that is finished already came too late and changes nothing.
        """
        return self._handlers[type(event)](event)

    def check(self) -> None:
        """Asserts what must always hold (tests call it after every event)."""
        assert all(not t.state.is_finished and n == t.number < self.next_number for n, t in self.live.items())
        assert self.num_finished + len(self.live) == self.next_number, "a trial was lost or doubled"
        assert set(self.live) == set(self.history.running)
        for state in (TrialState.WAITING, TrialState.RUNNING, TrialState.PAUSED):
            assert self.counts[state] == sum(t.state is state for t in self.live.values())
        assert sum(self.counts[s] for s in TrialState if s.is_finished) == self.num_finished

    # --- what a scheduler may ask

    @property
    def num_begun(self) -> int:
        """How many trials there are so far, with those that are to begin from another's checkpoint."""
        return self.next_number + len(self._forks)

    @property
    def is_ending(self) -> bool:
        """Whether nothing runs and nothing new is to come."""
        return not (
            self.counts[TrialState.RUNNING] or self.counts[TrialState.WAITING]
            or (self.next_number < self.target and (bool(self._forks) or not self.exhausted))
        )

    @property
    def has_completed(self) -> bool:
        """Whether any trial has come to its own end."""
        return self.counts[TrialState.COMPLETED] > 0

    def is_paused(self, number: int) -> bool:
        """Whether the trial is paused."""
        trial = self.live.get(number)
        return trial is not None and trial.state is TrialState.PAUSED

    def is_over(self, number: int) -> bool:
        """Whether the trial is finished."""
        return number < self.next_number and number not in self.live

    def can_lend(self, number: int) -> bool:
        """Whether the unfinished trial has a checkpoint."""
        trial = self.live.get(number)
        return trial is not None and bool(trial.checkpoints)

    def should_pause(self, number: int) -> bool:
        """Whether the trial is to leave its worker now: its last report and its newest checkpoint are of the same step.

        So nothing is reported twice or never, whether the objective reports before it makes a checkpoint or after.
        """
        trial = self.live.get(number)
        return (
            trial is not None and bool(trial.pause_reason) and bool(trial.checkpoints)
            and trial.checkpoints[-1].step == trial.step
        )

    # --- a study's own events

    def _opened(self, event: ev.Opened) -> list[Command]:
        self.target = event.target
        self.aborted = ""
        self._breaker = []
        commands: list[Command] = []
        for trial in self.live.values():
            if trial.state is TrialState.RUNNING:
                commands += self._wait_again(trial, "its controller died")
        return commands

    def _exhausted(self, event: ev.Exhausted) -> list[Command]:
        self.exhausted = event.reason
        return []

    # --- a trial's way up

    def _suggested(self, event: ev.Suggested) -> list[Command]:
        assert event.number == self.next_number, "trial numbers have no gaps"
        trial = Trial(event.number, event.params, event.attrs)
        if event.origin is not None:
            saved = self._forks.pop(0).saved
            trial.origin, trial.checkpoints = event.origin, (saved,)
            trial.step, trial.metrics = saved.last_step, dict(saved.metrics)
        self.history.start(event.number, Suggestion(event.params, event.attrs))
        self.live[event.number] = trial
        self.next_number += 1
        self.counts[TrialState.WAITING] += 1
        heapq.heappush(self._queue, event.number)
        return [ev.Save(trial)]

    def _launched(self, event: ev.Launched) -> list[Command]:
        trial = self.live[event.number]
        trial.attempt += 1
        trial.worker, trial.device, trial.reason = event.worker, event.device, ""
        if trial.failure is not None and trial.failure.kind is FailureClass.PREEMPTED:
            trial.failure = None
        self._move(trial, TrialState.RUNNING)
        if trial.stop_reason:  # judged at or before the checkpoint that it goes on from
            return [ev.Save(trial), ev.Stop(trial.number, trial.stop_reason)]
        return [ev.Save(trial)]

    def _param_suggested(self, event: ev.ParamSuggested) -> list[Command]:
        trial = self.live[event.number]
        self.history.add_param(event.number, event.name, domain_from_json(event.domain, event.name), event.value)
        trial.params[event.name] = event.value
        return []

    def _reported(self, event: ev.Reported) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None or trial.state is not TrialState.RUNNING:
            return []
        trial.step = event.step
        trial.metrics.update(event.metrics)
        value = event.metrics.get(self.goal.metric)
        if value is None or not self.scheduler.needs_reports or trial.stop_reason:
            return []
        if trial.pause_reason:
            return [ev.GiveUpPausing(trial.number, self._no_checkpoints(trial))] if self._can_not_pause(trial) else []
        known = {m: event.metrics[m] for m in self.goal.metrics if m in event.metrics}
        decision = self.scheduler.decide(Report(event.number, event.step, value, known), self)
        return [] if decision is None else [ev.Decide(event.number, decision)]

    def _checkpointed(self, event: ev.Checkpointed) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None or trial.state is not TrialState.RUNNING:
            return []
        saved = Saved(event.step, event.path, event.sha256, event.metrics, event.last_step)
        older = [c for c in trial.checkpoints if c.step < event.step][1 - LAST:]
        replaced = [c for c in trial.checkpoints if c not in older]
        trial.checkpoints = (*older, saved)
        self._has_checkpoints = True
        return self._drop(event.number, replaced)

    def _restored(self, event: ev.Restored) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None:
            return []
        kept = tuple(c for c in trial.checkpoints if event.step is not None and c.step <= event.step)
        passed_over = trial.checkpoints[len(kept):]
        if not passed_over:
            return []
        trial.checkpoints = kept
        verdict = trial.stop_reason, trial.stop_step  # its worker has been told
        forget = self._go_back(trial)
        trial.stop_reason, trial.stop_step = verdict
        return [*self._drop(event.number, passed_over), forget]

    def _judged(self, event: ev.Judged) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None:
            return []
        if event.action == Action.PAUSE:
            trial.pause_reason, trial.pause_step = event.reason, trial.step
            return []
        trial.stop_reason, trial.stop_step = event.reason, trial.step
        if event.parent is not None:
            parent = self.live[event.parent]
            saved = parent.checkpoints[-1]
            self._lending.lend(event.parent, saved.path)
            self._forks.append(Fork(event.parent, dict(parent.params), saved))
        return [ev.Stop(event.number, event.reason)] if trial.state is TrialState.RUNNING else []

    def _paused(self, event: ev.Paused) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None or trial.state is not TrialState.RUNNING:
            return []
        if event.step is not None:
            trial.metrics, trial.step = event.metrics, event.step
        if not trial.pause_reason:
            return self._wait_again(trial, "left its worker unasked")
        return self._pause(trial)

    def _thawed(self, event: ev.Thawed) -> list[Command]:
        trial = self.live[event.number]
        trial.pause_reason, trial.pause_step, trial.reason = "", None, event.reason
        self._move(trial, TrialState.WAITING)
        return [ev.Save(trial)]

    def _no_pausing(self, event: ev.NoPausing) -> list[Command]:
        assert self._pausing is not None
        self._pausing.give_up_pausing()
        self._pausing = None
        self.remark = event.reason
        for trial in self.live.values():
            trial.pause_reason, trial.pause_step = "", None
        return []

    # --- a trial's ends

    def _returned(self, event: ev.Returned) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None:
            return []
        trial.metrics, trial.step = event.metrics, event.step
        try:
            values = self.goal.values(trial.metrics)
        except KeyError as missing:
            return self._fail(trial, Failure(
                FailureClass.USER,
                f"the objective returned no result, and reported no metric {missing.args[0]!r}, the goal of the study",
            ))
        for name, value in zip(self.goal.metrics, values, strict=True):
            if not math.isfinite(value):
                at = "" if trial.step is None else f" (last report: step {trial.step})"
                return self._fail(trial, Failure(FailureClass.DIVERGED, f"{name} is {value}{at}"))
        trial.values = values
        trial.reason = trial.stop_reason
        return self._finish(trial, TrialState.PRUNED if trial.stop_reason else TrialState.COMPLETED)

    def _quit(self, event: ev.Quit) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None:
            return []
        trial.metrics, trial.step = event.metrics, event.step
        trial.reason = trial.stop_reason or event.reason
        values = tuple(trial.metrics.get(m, math.nan) for m in self.goal.metrics)
        trial.values = values if all(map(math.isfinite, values)) else None
        return self._finish(trial, TrialState.PRUNED)

    def _failed(self, event: ev.Failed) -> list[Command]:
        trial = self.live.get(event.number)
        return [] if trial is None else self._fail(trial, Failure.from_json(event.failure))

    def _lost(self, event: ev.Lost) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None:
            return []
        trial.losses += 1
        if trial.losses <= self.policy.max_losses:
            return self._wait_again(trial, f"lost its worker: {event.message}")
        message = f"lost its worker {trial.losses} times, last: {event.message}"
        return self._fail(trial, Failure(FailureClass.LOST, message))

    def _preempted(self, event: ev.Preempted) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None:
            return []
        commands = self._wait_again(trial, f"gave its place away: {event.reason}")
        if trial.state is TrialState.WAITING:
            trial.failure = Failure(FailureClass.PREEMPTED, event.reason)
        return commands

    def _given_back(self, event: ev.GivenBack) -> list[Command]:
        trial = self.live.get(event.number)
        if trial is None:
            return []
        if not event.ran:
            trial.attempt -= 1
        return self._wait_again(trial, "interrupted before its end" if event.ran else "waited behind a long trial")

    # --- what the handlers share

    def _move(self, trial: Trial, state: TrialState) -> None:
        self.counts[trial.state] -= 1
        self.counts[state] += 1
        trial.state = state
        if state is TrialState.WAITING:
            heapq.heappush(self._queue, trial.number)

    def _first_waiting(self) -> Trial | None:
        """The waiting trial with the lowest number."""
        while self._queue:
            trial = self.live.get(self._queue[0])
            if trial is not None and trial.state is TrialState.WAITING:
                return trial
            heapq.heappop(self._queue)
        return None

    def _fresh(self) -> ev.Suggest | None:
        """A new trial, if one is left."""
        is_left = self.next_number < self.target and not self.exhausted
        return ev.Suggest(self.next_number) if is_left else None

    def _next_turn(self, pausing: PausingScheduler) -> ev.Suggest | ev.Take | ev.GiveUp | ev.Conclude | None:
        """What the scheduler wants with a free place; at the end of the study, what becomes of those still paused."""
        if self._forks and self.next_number < self.target:
            return ev.Suggest(self.next_number, self._forks[0])
        turn = pausing.turn(self)
        if isinstance(turn, tuple):
            return ev.Take(*turn)
        if turn is Turn.FRESH and (fresh := self._fresh()) is not None:
            return fresh
        if self.is_ending and self.live:
            trial = next(iter(self.live.values()))
            return ev.GiveUp(trial.number, f"{trial.reason}; it was never promoted")
        if turn is Turn.NOTHING and not self.live and not self.exhausted:
            return ev.Conclude("the scheduler wants no more trials")
        return None

    def _can_not_pause(self, trial: Trial) -> bool:
        """Whether the trial has made twice the steps at which it was to pause, and no trial any checkpoint so far."""
        if self._has_checkpoints or trial.step is None or trial.pause_step is None:
            return False
        return trial.step > trial.pause_step and trial.step >= 2 * trial.pause_step

    def _no_checkpoints(self, trial: Trial) -> str:
        """Why no trial can be paused, as far as this one shows, and what is done instead."""
        assert self._pausing is not None
        made = "no checkpoint was of the same step as a report" if self._has_checkpoints else "no checkpoint was made"
        return (f"{made} up to step {trial.step}, though the trial was to pause at step {trial.pause_step}: "
                f"{self._pausing.without_pauses}")

    def _wait_again(self, trial: Trial, reason: str) -> list[Command]:
        """The trial goes back to waiting; when its turn comes, it goes on from its last checkpoint, or from nothing.

        One that was to pause, and has the checkpoint for it, is paused.
        """
        forget = self._go_back(trial)
        if trial.pause_reason:
            return [forget, *self._pause(trial)]
        self._move(trial, TrialState.WAITING)
        trial.reason = reason
        return [forget, ev.Save(trial)]

    def _pause(self, trial: Trial) -> list[Command]:
        """The trial has left its worker, and waits for its scheduler."""
        self._has_paused = True
        self._move(trial, TrialState.PAUSED)
        trial.reason = trial.pause_reason
        *older, newest = trial.checkpoints
        trial.checkpoints = (newest,)
        values = tuple(trial.metrics.get(m, math.nan) for m in self.goal.metrics)
        self.history.note(trial.number, values, trial.step)
        return [*self._drop(trial.number, older), ev.Save(trial)]

    def _go_back(self, trial: Trial) -> ev.Forget:
        """The trial is as it was at its last checkpoint, or at its beginning."""
        saved = trial.checkpoints[-1] if trial.checkpoints else None
        after_step = saved.step if saved else None
        if after_step is None or trial.stop_step is None or trial.stop_step > after_step:
            trial.stop_reason, trial.stop_step = "", None
        if after_step is None or trial.pause_step is None or trial.pause_step > after_step:
            trial.pause_reason, trial.pause_step = "", None
        trial.step, trial.metrics = (saved.last_step, dict(saved.metrics)) if saved else (None, {})
        self.scheduler.forget(trial.number, after_step)
        return ev.Forget(trial.number, after_step)

    def _fail(self, trial: Trial, failure: Failure) -> list[Command]:
        trial.failure = failure
        if failure.kind is FailureClass.HUNG and trial.hangs < self.policy.max_hangs:
            trial.hangs += 1
            return self._wait_again(trial, f"start {trial.hangs + 1} of {self.policy.max_hangs + 1}: {failure.message}")
        if failure.kind is FailureClass.OOM and trial.batch_divisor < 2**self.policy.halvings:
            trial.batch_divisor *= 2
            reason = f"its batches are cut into {trial.batch_divisor}, after: {failure.message}"
            return [ev.Note(trial.number, "halve batch", reason), *self._wait_again(trial, reason)]
        trial.errors += 1
        if trial.errors <= self.policy.retries and failure.kind not in _NO_RETRY:
            discards: list[Command] = []
            if failure.kind is FailureClass.DIVERGED:  # its checkpoints may hold what made it diverge
                discards = self._drop(trial.number, trial.checkpoints)
                trial.checkpoints = ()
            reason = f"retry {trial.errors} of {self.policy.retries} after: {failure.message}"
            return [*discards, *self._wait_again(trial, reason)]
        return self._finish(trial, TrialState.FAILED)

    def _finish(self, trial: Trial, state: TrialState) -> list[Command]:
        self._move(trial, state)
        del self.live[trial.number]
        failure = trial.failure.kind if state is TrialState.FAILED and trial.failure else None
        self.history.finish(trial.number, state, trial.values, trial.step, failure)
        commands: list[Command] = [ev.Save(trial)]
        if trial.pause_reason and not self._has_paused and state is not TrialState.FAILED:  # it was never possible
            commands.append(ev.GiveUpPausing(trial.number, self._no_checkpoints(trial)))
        if trial.checkpoints:
            borrowed = [c for c in trial.checkpoints if self._lending.is_borrowed(trial.number, c.path)]
            own = tuple(c for c in trial.checkpoints if c not in borrowed)
            commands += self._drop(trial.number, borrowed)
            for number, saved in self._retention.finish(trial.number, state, trial.values, own):
                commands += self._drop(number, [saved])
        if self._breaks(trial):
            assert trial.failure is not None
            self.aborted = f"the first {self.policy.breaker} trials all failed in the same way: {trial.failure.message}"
            commands.append(ev.Abort(self.aborted))
        return commands

    def _drop(self, number: int, checkpoints: Iterable[Saved]) -> list[Command]:
        """The trial needs these no more; those that no other needs are discarded."""
        return [ev.Discard(owner, path) for owner, path in self._lending.drop(number, checkpoints)]

    def _breaks(self, trial: Trial) -> bool:
        """Whether this was the last of the first few trials since the study was opened, and all failed alike."""
        if self._breaker is None or not self.policy.breaker:
            return False
        if trial.state is not TrialState.FAILED or trial.failure is None:
            self._breaker = None
            return False
        self._breaker.append(trial.failure.signature)
        if len(set(self._breaker)) > 1:
            self._breaker = None
            return False
        return len(self._breaker) >= self.policy.breaker


_NO_RETRY = (FailureClass.LOST, FailureClass.HUNG)
"""These have been started again often enough."""


def _nothing(_event: object) -> list[Command]:
    return []
