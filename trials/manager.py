"""The loop that runs a study: fill the free places, take in what happens, commit every few tens of milliseconds.

One thread, one way: executor -> ``happened`` -> table and log -> commands -> executor. Whatever ends the loop (the last
trial, Ctrl-C, SIGTERM, a time limit, a full disk), the executor's processes are gone before ``run`` returns, and what
they had not finished waits in the log for ``velo resume``.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from velodrome.errors import StoreError
from velodrome.records import ArtifactRow, trial_id
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.commands import Command
from velodrome.trials.controller import Controller
from velodrome.trials.events import Event
from velodrome.trials.executor import Executor, Job, StudyContext, Waits
from velodrome.trials.interrupts import Interrupts
from velodrome.trials.pace import Pace
from velodrome.trials.share import LOOK_EVERY_S, Allowance, Share
from velodrome.types import Failure, FailureClass, ParamValue, TrialState

_PROGRESS_EVERY_S = 0.2
"""How often the progress line changes at most."""
_STORE_PATIENCE_S = 10.0
"""How long a store that can't be written is tried again before the study stops."""

_ENDS = frozenset({ev.Returned, ev.Quit, ev.Paused, ev.Failed, ev.Lost, ev.Preempted, ev.GivenBack})
_ENDS_BY_ITSELF = frozenset({ev.Returned, ev.Quit})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is. ``finished`` counts what is committed."""

    study: str
    target: int
    finished: int
    running: int
    pruned: int
    failed: int
    metric: str
    best: tuple[int, float] | None
    """Number and value of the best completed trial."""
    trials_per_s: float
    """Since this controller opened the study."""
    left_s: float | None
    """Estimate; None while there is nothing to estimate from."""
    note: str = ""
    """What the user should know now: the store is full, say."""
    last_report: tuple[int, float | None] | None = None
    """Of a study of one trial: the last step it reported, and the goal's metric there, if it had it."""
    paused: int = 0
    remark: str = ""
    """What had to be done in another way than was asked for; once said, it stays."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of the loop ended: the study's new state, why, and the signal that ended it (0 for none)."""

    state: str
    note: str
    signum: int = 0


class Manager:
    """Runs a study's trials on an executor; it is the executor's ``Host``.

    Args:
        controller: The study.
        executor: Already told to ``describe`` its objective.
        context: What the workers must know of the study.
        target: How many finished trials are asked for.
        timeout_s: Stop after so many seconds; None for never.
        on_progress: Called a few times a second.
        record_output: Takes note of where a trial's output lies.
        share: What the study may hold of a machine that others use too; None for what the executor was made with.
        hung_after_s: How long a trial may give no sign of life; None to learn it from the trials' own pace.
    """

    def __init__(
        self,
        controller: Controller,
        executor: Executor,
        context: StudyContext,
        *,
        target: int,
        timeout_s: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        record_output: Callable[[ArtifactRow], None] | None = None,
        share: Share | None = None,
        hung_after_s: float | None = None,
    ) -> None:
        self._controller = controller
        self._executor = executor
        self._context = context
        self._target = target
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._record_output = record_output
        self._clock = controller.clock
        self._started_at = self._clock.monotonic()
        self._finished_before = controller.table.num_finished
        self._next_progress_at = 0.0
        self._store_failed_at: float | None = None
        self._share = share
        self._allowance: Allowance | None = None
        self._pace = Pace(hung_after_s)
        self._next_look_at = 0.0
        self._look_every_s = LOOK_EVERY_S
        self._num_held = 0
        self._ending: Outcome | None = None
        self._interrupts = Interrupts()

    def run(self) -> Outcome:
        """Runs until the study is done or must stop; returns how it ended.

        Raises:
            StoreError: If the store could not be written for some seconds. What was committed is safe; what was not
                will be run again on resume.
        """
        controller = self._controller
        with self._interrupts.caught():
            try:
                self._carry_out(controller.happened(ev.Opened(self._target)))
                self._executor.open(self, self._context)
                while (outcome := self._outcome()) is None:
                    self._look_around()
                    self._fill()
                    self._poll()
                    self._commit()
                    self._tell_progress()
            except KeyboardInterrupt:
                outcome = _interrupted(self._interrupts.signum or signal.SIGINT)
            except StoreError:
                raise
            except BaseException as error:
                self._executor.close()
                with suppress(StoreError):  # the first error is the one to tell
                    controller.close(f"stopped by an error: {error}".partition("\n")[0], "stopped")
                raise
            finally:
                self._executor.close()
        controller.close(outcome.note, outcome.state)
        self._tell_progress(now=True)
        return outcome

    # --- what an executor asks of its host

    def happened(self, event: Event) -> None:
        """Takes note of an event."""
        inside = self._interrupts.leave_objective()
        self._keep_pace(event)
        commands = self._controller.happened(event)
        if commands:
            self._carry_out(commands)
        self._interrupts.back(inside)

    def suggest(self, number: int, name: str, domain: dict[str, Any]) -> ParamValue:
        """The value for a parameter of a define-by-run trial."""
        inside = self._interrupts.leave_objective()
        self._pace.heard(number, self._clock.monotonic())
        try:
            return self._controller.suggest_param(number, name, domain)
        finally:
            self._interrupts.back(inside)

    def should_stop(self, number: int) -> bool:
        """Whether the trial is to stop after all it has reported."""
        trial = self._controller.table.live.get(number)
        return trial is None or bool(trial.stop_reason)

    def should_pause(self, number: int) -> bool:
        """Whether the trial is to leave its worker."""
        return self._controller.table.should_pause(number)

    def should_save(self, number: int, *, at_end: bool) -> bool:
        """Whether a checkpoint of the trial is of use."""
        return self._controller.table.should_save(number, at_end=at_end)

    def output(self, number: int, attempt: int, path: str, start: int, end: int) -> None:
        """Takes note of where a trial's output lies."""
        if self._record_output is not None:
            key = trial_id(self._controller.study.id, number)
            self._record_output(ArtifactRow(key, "log", attempt, path, start, end))

    # --- the loop's stages

    def _poll(self) -> None:
        """Lets the executor work; where the objective runs in this thread, Ctrl-C is raised inside it."""
        with self._interrupts.in_objective(here=self._executor.runs_here):
            self._executor.poll(self._patience_s())

    def _fill(self) -> None:
        """Launches as many trials as the executor has room for."""
        if self._store_failed_at is not None:
            return
        controller, executor = self._controller, self._executor
        for _ in range(executor.room()):
            launch = controller.next()
            if launch is None:
                return
            number, attempt, params, checkpoints, origin, divisor = launch
            job = Job(number, attempt, controller.seed_of(number), params, checkpoints, origin, divisor)
            worker, device = executor.launch(job)
            self._pace.started(number, self._clock.monotonic())
            self._carry_out(controller.happened(ev.Launched(number, worker, device)))

    def _look_around(self) -> None:
        """A few times a second, and when a slot is free: holds what the study may hold, and ends trials that hang."""
        now = self._clock.monotonic()
        held = self._executor.held() if self._share is not None else []
        is_due = now >= self._next_look_at or len(held) < self._num_held
        self._num_held = len(held)
        if not is_due:
            return
        self._next_look_at = now + self._look_every_s
        for number, message in self._pace.overdue(now):
            failure = Failure(FailureClass.HUNG, message)
            self._executor.abandon(number, ev.Failed(number, failure.to_json()))
        if self._share is None:
            return
        allowance = self._share.adjust(held, self._wanted(), self._executor.gpu_peak_bytes)
        self._look_every_s = allowance.look_in_s
        self._next_look_at = now + allowance.look_in_s
        if allowance != self._allowance:
            self._allowance = allowance
            self._executor.resize(allowance.slots, allowance.reason, allowance.leave_s, allowance.grace_s)
            count = f"{len(allowance.slots)} worker{'' if len(allowance.slots) == 1 else 's'}"
            self._controller.journal.study_decision("resources", "resize", f"{count}: {allowance.reason}")

    def _wanted(self) -> int:
        """How many workers the trials that could run now would fill."""
        table = self._controller.table
        roster = table.roster
        new = 0 if roster.exhausted else max(0, roster.target - roster.next_number)
        return -(-(len(table.live) + new) // self._context.group_size)

    def _keep_pace(self, event: Event) -> None:
        kind, number = type(event), getattr(event, "number", None)
        if number is None:
            return
        if kind in _ENDS:
            self._pace.ended(number, self._clock.monotonic(), by_itself=kind in _ENDS_BY_ITSELF)
        else:
            self._pace.heard(number, self._clock.monotonic())

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case cmd.Stop(number, reason):
                    self._executor.stop(number, reason)
                case cmd.Abort(reason):
                    self._ending = Outcome("failed", reason)
                case _:
                    raise AssertionError(f"{command} is not for the manager")

    def _commit(self) -> None:
        """Commits when it is time; a store that can't be written is tried again for a while, launching nothing."""
        try:
            self._controller.commit(only_if_due=True)
            self._store_failed_at = None
        except StoreError:
            now = self._clock.monotonic()
            if self._store_failed_at is None:
                self._store_failed_at = now
            if now - self._store_failed_at > _STORE_PATIENCE_S:
                raise

    def _outcome(self) -> Outcome | None:
        """How the loop is to end; None while it goes on."""
        table = self._controller.table
        if self._ending is None:
            if self._interrupts.signum:
                self._ending = _interrupted(self._interrupts.signum)
            elif table.done:
                self._ending = Outcome("finished", table.roster.exhausted)
            elif self._timeout_s is not None and self._clock.monotonic() - self._started_at >= self._timeout_s:
                self._ending = Outcome("stopped", f"its time was up after {self._timeout_s:g} s")
        return self._ending

    def _patience_s(self) -> float:
        waits = [0.0 if self._controller.table.done else self._look_every_s]
        if (commit_in_s := self._controller.commit_in_s) is not None and self._store_failed_at is None:
            waits.append(commit_in_s)
        if self._timeout_s is not None:
            waits.append(max(0.0, self._started_at + self._timeout_s - self._clock.monotonic()))
        return min(waits)

    def _tell_progress(self, *, now: bool = False) -> None:
        at = self._clock.monotonic()
        if self._on_progress is None or (at < self._next_progress_at and not now):
            return
        self._next_progress_at = at + _PROGRESS_EVERY_S
        self._on_progress(self._progress(at))

    def _progress(self, at: float) -> Progress:
        controller, table = self._controller, self._controller.table
        finished = controller.committed_finished
        new, elapsed_s = finished - self._finished_before, at - self._started_at
        rate = new / elapsed_s if elapsed_s > 0 else 0.0
        return Progress(
            controller.study.name, self._target, finished, table.counts[TrialState.RUNNING],
            table.counts[TrialState.PRUNED], table.counts[TrialState.FAILED], table.goal.metric, controller.best, rate,
            (self._target - finished) / rate if rate > 0 else None,
            self._note(), self._last_report(), table.counts[TrialState.PAUSED], table.remark,
        )

    def _note(self) -> str:
        if self._store_failed_at is not None:
            return "the store can't be written; trying again"
        if self._allowance is not None and not self._allowance.slots:
            return f"waiting for a place: {self._allowance.reason}"
        return self._executor.waits_for if isinstance(self._executor, Waits) else ""

    def _last_report(self) -> tuple[int, float | None] | None:
        if self._target != 1:
            return None
        table = self._controller.table
        return next(
            ((t.step, t.metrics.get(table.goal.metric)) for t in table.live.values() if t.step is not None), None
        )


def _interrupted(signum: int) -> Outcome:
    return Outcome("stopped", f"interrupted by {signal.Signals(signum).name}", signum)
