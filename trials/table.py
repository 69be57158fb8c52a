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

import math
from collections.abc import Callable
from typing import Any, cast

from velodrome.search.domains import domain_from_json
from velodrome.search.history import History
from velodrome.search.scheduler import PausingScheduler, Scheduler
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.checkpoints import Kept
from velodrome.trials.commands import Command
from velodrome.trials.events import Event
from velodrome.trials.keeping import Keeping
from velodrome.trials.live_trial import LiveTrial
from velodrome.trials.pausing import Pausing, may_leave
from velodrome.trials.policy import Breaker, Policy, again
from velodrome.trials.roster import Roster
from velodrome.types import Action, Failure, FailureClass, Report, Suggestion, TrialState


class TrialTable:
    """All trials of one study.

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
        self.roster = Roster()
        self.aborted = ""
        self.remark = ""
        """What had to be done in another way than was asked for; empty where nothing had."""
        self._keeping = Keeping(policy.keep_checkpoints, self.goal)
        self._breaker = Breaker(policy.breaker)
        self._pausing = Pausing(cast(PausingScheduler, scheduler), self.roster) if scheduler.pauses else None
        self._of_study: dict[type[Any], Callable[[Any], list[Command]]] = {
            ev.Opened: self._opened, ev.Suggested: self._suggested, ev.Exhausted: self._exhausted,
            ev.NoPausing: self._no_pausing, ev.Closed: _nothing,
        }
        self._of_trial: dict[type[Any], Callable[[LiveTrial, Any], list[Command]]] = {
            ev.Launched: self._launched, ev.ParamSuggested: self._param_suggested, ev.AttrSet: _nothing,
            ev.Reported: self._reported, ev.Checkpointed: self._checkpointed, ev.Restored: self._restored,
            ev.Judged: self._judged, ev.Paused: self._paused, ev.Thawed: self._thawed,
            ev.Returned: self._returned, ev.Quit: self._quit, ev.Failed: self._failed, ev.Lost: self._lost,
            ev.Preempted: self._preempted, ev.GivenBack: self._given_back, ev.Noted: self._noted,
        }

    @property
    def live(self) -> dict[int, LiveTrial]:
        """The unfinished trials by number."""
        return self.roster.live

    @property
    def counts(self) -> dict[TrialState, int]:
        """How many trials are in each state."""
        return self.roster.counts

    @property
    def num_finished(self) -> int:
        """How many trials count as done."""
        return len(self.history)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.aborted) or self.roster.is_empty

    def next(self) -> cmd.Launch | cmd.Suggest | cmd.Take | cmd.GiveUp | cmd.Conclude | None:
        """What to do with a free place: start a trial that waits, ask for a new one, or nothing.

        With a scheduler that pauses, also what becomes of a paused trial; ask again when that is done.
        """
        if self.aborted:
            return None
        if (trial := self.roster.first_waiting()) is not None:
            kept = tuple(Kept(c.step, c.path, c.sha256) for c in reversed(trial.checkpoints))
            return cmd.Launch(
                trial.number, trial.attempt + 1, trial.params, kept, trial.origin, trial.batch_divisor
            )
        return self._pausing.next() if self._pausing is not None else self.roster.fresh()

    def should_pause(self, number: int) -> bool:
        """Whether the trial is to leave its worker now."""
        trial = self.live.get(number)
        return trial is not None and may_leave(trial)

    def should_save(self, number: int, *, at_end: bool) -> bool:
        """Whether a checkpoint of what the trial reported last is of use.

        Others might go on from it, the trial is to pause, or it ends and the checkpoint would be kept.
        """
        trial = self.live.get(number)
        if trial is None:
            return False
        lends = self._pausing is not None and self._pausing.lends
        return lends or bool(trial.pause_reason) or (at_end and self._keeping.would_stay(trial))

    def handle(self, event: Event) -> list[Command]:
        """Takes an event and returns what is to be done about it, in order.

        A message about a trial that is finished already came too late and changes nothing.
        """
        kind = type(event)
        if kind in self._of_study:
            return self._of_study[kind](event)
        trial = self.live.get(event.number)  # type: ignore[union-attr]  # every other kind is about a trial
        return [] if trial is None else self._of_trial[kind](trial, event)

    def check(self) -> None:
        """Asserts what must always hold (tests call it after every event)."""
        self.roster.check(self.num_finished)
        assert set(self.live) == set(self.history.running)

    # --- a study's own events

    def _opened(self, event: ev.Opened) -> list[Command]:
        self.roster.target = event.target
        self.aborted = ""
        self._breaker.reset()
        commands: list[Command] = []
        for trial in self.live.values():
            if trial.state is TrialState.RUNNING:
                commands += self._wait_again(trial, "its controller died")
        return commands

    def _exhausted(self, event: ev.Exhausted) -> list[Command]:
        self.roster.exhausted = event.reason
        return []

    # --- a trial's way up

    def _suggested(self, event: ev.Suggested) -> list[Command]:
        trial = LiveTrial(event.number, event.params, event.attrs)
        if event.origin is not None:
            saved = self.roster.forks.pop(0).saved
            trial.origin, trial.checkpoints = event.origin, (saved,)
            trial.step, trial.metrics = saved.last_step, dict(saved.metrics)
        self._keeping.begin(trial)
        self.history.start(event.number, Suggestion(event.params, event.attrs))
        self.roster.add(trial)
        return [cmd.Save(trial)]

    def _launched(self, trial: LiveTrial, event: ev.Launched) -> list[Command]:
        trial.attempt += 1
        trial.worker, trial.device, trial.reason = event.worker, event.device, ""
        if trial.failure is not None and trial.failure.kind is FailureClass.PREEMPTED:
            trial.failure = None
        self.roster.move(trial, TrialState.RUNNING)
        if trial.stop_reason:  # judged at or before the checkpoint that it goes on from
            return [cmd.Save(trial), cmd.Stop(trial.number, trial.stop_reason)]
        return [cmd.Save(trial)]

    def _param_suggested(self, trial: LiveTrial, event: ev.ParamSuggested) -> list[Command]:
        self.history.add_param(event.number, event.name, domain_from_json(event.domain, event.name), event.value)
        trial.params[event.name] = event.value
        return []

    def _reported(self, trial: LiveTrial, event: ev.Reported) -> list[Command]:
        if trial.state is not TrialState.RUNNING:
            return []
        trial.step = event.step
        trial.metrics.update(event.metrics)
        value = event.metrics.get(self.goal.metric)
        if value is None or not self.scheduler.needs_reports or trial.stop_reason:
            return []
        if trial.pause_reason:
            pausing = self._pausing
            return [pausing.why_impossible(trial)] if pausing is not None and pausing.seems_impossible(trial) else []
        known = {m: event.metrics[m] for m in self.goal.metrics if m in event.metrics}
        decision = self.scheduler.decide(Report(event.number, event.step, value, known), self.roster)
        return [] if decision is None else [cmd.Decide(event.number, decision)]

    def _checkpointed(self, trial: LiveTrial, event: ev.Checkpointed) -> list[Command]:
        if trial.state is not TrialState.RUNNING:
            return []
        if self._pausing is not None:
            self._pausing.has_checkpoints = True
        return list(self._keeping.made(trial, event))

    def _restored(self, trial: LiveTrial, event: ev.Restored) -> list[Command]:
        before = trial.checkpoints
        discards = self._keeping.passed_over(trial, event.step)
        if trial.checkpoints == before:
            return []
        verdict = trial.stop_reason, trial.stop_step  # its worker has been told
        forget = self._go_back(trial)
        trial.stop_reason, trial.stop_step = verdict
        return [*discards, forget]

    def _judged(self, trial: LiveTrial, event: ev.Judged) -> list[Command]:
        if event.action == Action.PAUSE:
            trial.pause_reason, trial.pause_step = event.reason, trial.step
            return []
        if event.action == Action.FORK:
            self.roster.forks.append(self._keeping.lend(trial))
            return []
        trial.stop_reason, trial.stop_step = event.reason, trial.step
        if event.parent is not None:
            self.roster.forks.append(self._keeping.lend(self.live[event.parent]))
        return [cmd.Stop(event.number, event.reason)] if trial.state is TrialState.RUNNING else []

    def _paused(self, trial: LiveTrial, event: ev.Paused) -> list[Command]:
        if trial.state is not TrialState.RUNNING:
            return []
        if event.step is not None:
            trial.metrics, trial.step = event.metrics, event.step
        if not trial.pause_reason:
            return self._wait_again(trial, "left its worker unasked")
        return self._pause(trial)

    def _thawed(self, trial: LiveTrial, event: ev.Thawed) -> list[Command]:
        trial.pause_reason, trial.pause_step, trial.reason = "", None, event.reason
        self.roster.move(trial, TrialState.WAITING)
        return [cmd.Save(trial)]

    def _no_pausing(self, event: ev.NoPausing) -> list[Command]:
        assert self._pausing is not None
        self._pausing.give_up()
        self._pausing = None
        self.remark = event.reason
        return []

    def _noted(self, trial: LiveTrial, event: ev.Noted) -> list[Command]:
        if (event.by, event.action) == ("fusion", "train alone") and not self.remark:
            self.remark = f"trial {trial.number} is trained by itself: {event.reason}"
        return []

    # --- a trial's ends

    def _returned(self, trial: LiveTrial, event: ev.Returned) -> list[Command]:
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

    def _quit(self, trial: LiveTrial, event: ev.Quit) -> list[Command]:
        trial.metrics, trial.step = event.metrics, event.step
        trial.reason = trial.stop_reason or event.reason
        values = tuple(trial.metrics.get(m, math.nan) for m in self.goal.metrics)
        trial.values = values if all(map(math.isfinite, values)) else None
        return self._finish(trial, TrialState.PRUNED)

    def _failed(self, trial: LiveTrial, event: ev.Failed) -> list[Command]:
        return self._fail(trial, Failure.from_json(event.failure))

    def _lost(self, trial: LiveTrial, event: ev.Lost) -> list[Command]:
        saved = trial.checkpoints[-1].step if trial.checkpoints else -1
        if saved > trial.lost_step:
            trial.losses, trial.lost_step = 0, saved
        trial.losses += 1
        if trial.losses <= self.policy.max_losses:
            return self._wait_again(trial, f"lost its worker: {event.message}")
        message = f"lost its worker {trial.losses} times, last: {event.message}"
        return self._fail(trial, Failure(FailureClass.LOST, message))

    def _preempted(self, trial: LiveTrial, event: ev.Preempted) -> list[Command]:
        commands = self._wait_again(trial, f"gave its place away: {event.reason}")
        if trial.state is TrialState.WAITING:
            trial.failure = Failure(FailureClass.PREEMPTED, event.reason)
        return commands

    def _given_back(self, trial: LiveTrial, event: ev.GivenBack) -> list[Command]:
        if not event.ran:
            trial.attempt -= 1
        usual = "interrupted before its end" if event.ran else "waited behind a long trial"
        return self._wait_again(trial, event.reason or usual)

    # --- what the handlers share

    def _wait_again(self, trial: LiveTrial, reason: str) -> list[Command]:
        """The trial goes back to waiting; when its turn comes, it goes on from its last checkpoint, or from nothing.

        One that was to pause, and has the checkpoint for it, is paused.
        """
        forget = self._go_back(trial)
        if trial.pause_reason:
            return [forget, *self._pause(trial)]
        self.roster.move(trial, TrialState.WAITING)
        trial.reason = reason
        return [forget, cmd.Save(trial)]

    def _pause(self, trial: LiveTrial) -> list[Command]:
        """The trial has left its worker, and waits for its scheduler."""
        if self._pausing is not None:
            self._pausing.has_paused = True
        self.roster.move(trial, TrialState.PAUSED)
        trial.reason = trial.pause_reason
        discards = self._keeping.paused(trial)
        values = tuple(trial.metrics.get(m, math.nan) for m in self.goal.metrics)
        self.history.note(trial.number, values, trial.step)
        return [*discards, cmd.Save(trial)]

    def _go_back(self, trial: LiveTrial) -> cmd.Forget:
        after_step = trial.go_back()
        self.scheduler.forget(trial.number, after_step)
        return cmd.Forget(trial.number, after_step)

    def _fail(self, trial: LiveTrial, failure: Failure) -> list[Command]:
        trial.failure = failure
        if (retry := again(trial, failure, self.policy)) is None:
            return self._finish(trial, TrialState.FAILED)
        commands: list[Command] = []
        if retry.has_halved:
            commands.append(cmd.Note(trial.number, "halve batch", retry.reason))
        if retry.from_nothing:
            commands += self._keeping.distrusted(trial)
        return commands + self._wait_again(trial, retry.reason)

    def _finish(self, trial: LiveTrial, state: TrialState) -> list[Command]:
        self.roster.move(trial, state)
        failure = trial.failure if state is TrialState.FAILED else None
        self.history.finish(trial.number, state, trial.values, trial.step, failure.kind if failure else None)
        commands: list[Command] = [cmd.Save(trial)]
        pausing = self._pausing
        if trial.pause_reason and failure is None and pausing is not None and not pausing.has_paused:
            commands.append(pausing.why_impossible(trial))
        commands += self._keeping.finished(trial)
        if self._breaker.trips(failure) and failure is not None:
            self.aborted = f"the first {self.policy.breaker} trials all failed in the same way: {failure.message}"
            commands.append(cmd.Abort(self.aborted))
        return commands


def _nothing(*_: object) -> list[Command]:
    return []
