"""Runs trials on a table of learning curves by a clock that jumps: a scheduler's whole study takes milliseconds.

The clock is the controller's own, so the store's times, time limits and rates are simulated ones. Nothing is random
here: what happens at the same moment happens in the order in which it was set in motion.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from velodrome.clock import FakeClock
from velodrome.resources.slots import Slot
from velodrome.trials.events import Checkpointed, Event, GivenBack, Paused, Preempted, Reported, Restored, Returned
from velodrome.trials.executor import Host, Job, ObjectiveInfo, StudyContext
from velodrome.types import Metrics, Params


class Curve(NamedTuple):
    """What training with one configuration reports, step by step from step 1."""

    metrics: list[Metrics]
    seconds: list[float]
    """How long each step takes."""


class CurveTable(Protocol):
    """Learning curves by configuration: a benchmark's table, a surrogate, or a formula."""

    def curve(self, params: Params) -> Curve:
        """The curve of a configuration; always the same for the same one."""
        ...


@dataclass(frozen=True, slots=True)
class Costs:
    """What is charged besides training, in simulated seconds.

    Attributes:
        suggest_s: For each new trial; None for the time that suggesting it really took. Suggestions are made one after
            another, as by one controller.
        thaw_s: For starting a trial again from its checkpoint.
        checkpoint_s: For each checkpoint.
    """

    suggest_s: float | None = None
    thaw_s: float = 0.0
    checkpoint_s: float = 0.0


@dataclass(slots=True)
class _Run:
    """A trial on its worker."""

    job: Job
    worker: int
    curve: Curve
    done: int
    """How many steps are done."""
    told: bool = False
    """Whether it was told to stop."""
    began: bool = False
    gives_way: str = ""
    """Why it is to give its place away; empty where it is not."""


class SimulatedExecutor:
    """Several simulated workers.

    Args:
        curves: What training reports.
        clock: The controller's clock.
        workers: How many trials run at once.
        costs: What is charged besides training.
        checkpoints: Whether a trial makes a checkpoint after each step, where the scheduler pauses; False simulates an
            objective that makes none.
        limit_s: Nothing happens after this moment of the clock.
    """

    runs_here = False
    gpu_peak_bytes = 0

    def __init__(
        self, curves: CurveTable, clock: FakeClock, workers: int = 8, *, costs: Costs | None = None,
        checkpoints: bool = True, limit_s: float | None = None,
    ) -> None:
        self._curves, self._clock, self._limit_s = curves, clock, limit_s
        self._costs = costs if costs is not None else Costs()
        self._checkpoints = checkpoints
        self._idle = list(range(workers))
        self._slots = [Slot(index, 1, "cpu", "simulated") for index in range(workers)]
        self._runs: dict[int, _Run] = {}
        self._due: list[tuple[float, int, int]] = []
        """When the next step of each running trial is done, as a heap; the second item keeps the order."""
        self._count = 0
        self._sampler_free_at = 0.0
        self._idle_since = 0.0
        self._host: Host | None = None
        self._makes_checkpoints = False
        self.spent_s: dict[int, float] = {}
        """How long each trial was on a worker so far, by number."""

    def describe(self) -> ObjectiveInfo:
        """There is no objective."""
        return ObjectiveInfo("simulated", "")

    def open(self, host: Host, context: StudyContext) -> None:
        """Ready to launch."""
        self._host = host
        self._makes_checkpoints = self._checkpoints and context.pauses
        self._idle_since = time.perf_counter()

    def room(self) -> int:
        """One trial for each idle worker."""
        return len(self._idle)

    def launch(self, job: Job) -> tuple[str, str]:
        """The trial starts when the sampler was done with it."""
        begins_at = self._clock.monotonic()
        if job.attempt == 1:
            begins_at = self._sampler_free_at = max(begins_at, self._sampler_free_at) + self._suggest_s()
        else:
            begins_at += self._costs.thaw_s
        worker = heapq.heappop(self._idle)
        done = job.checkpoints[0].step if job.checkpoints else 0
        run = self._runs[job.number] = _Run(job, worker, self._curves.curve(job.params), done)
        self._plan(run, begins_at)
        self._idle_since = time.perf_counter()
        return f"worker-{worker}", "simulated"

    def stop(self, number: int, reason: str) -> None:
        """The trial ends after the step that it is told at."""
        if (run := self._runs.get(number)) is not None:
            run.told = True

    def preempt(self, number: int, reason: str, grace_s: float) -> None:
        """The trial ends with its next step, at its checkpoint where it makes them."""
        if (run := self._runs.get(number)) is not None:
            run.gives_way = reason

    def abandon(self, number: int, event: Event) -> None:
        """Does nothing: a simulated trial never hangs."""

    def held(self) -> list[Slot]:
        """One slot for each simulated worker."""
        return self._slots

    def resize(self, slots: Sequence[Slot], reason: str, leave_s: float, grace_s: float) -> None:
        """Does nothing: simulated workers are as many as were asked for."""

    def poll(self, timeout_s: float) -> None:
        """Moves the clock from step to step until a worker is idle, however far that is; by one step if one is now."""
        while self._due:
            at, _, number = self._due[0]
            if self._limit_s is not None and at > self._limit_s:
                self._move_clock(self._limit_s)
                break
            heapq.heappop(self._due)
            self._move_clock(at)
            self._step(self._runs[number])
            if self._idle:
                break
        self._idle_since = time.perf_counter()

    def close(self) -> None:
        """Gives the unfinished trials back."""
        host, self._host = self._host, None
        runs, self._runs, self._due = self._runs, {}, []
        if host is not None:
            for number in runs:
                host.happened(GivenBack(number))

    # --- a trial's life

    def _plan(self, run: _Run, begins_at: float) -> None:
        """Sets the trial's next step in motion."""
        seconds = run.curve.seconds[run.done] if run.done < len(run.curve.metrics) else 0.0
        seconds += self._costs.checkpoint_s if self._makes_checkpoints else 0.0
        self._count += 1
        heapq.heappush(self._due, (begins_at + seconds, self._count, run.job.number))
        number = run.job.number
        self.spent_s[number] = self.spent_s.get(number, 0.0) + begins_at + seconds - self._clock.monotonic()

    def _step(self, run: _Run) -> None:
        """One step is done: report, checkpoint, and what follows from that."""
        host, (number, attempt, *_) = self._host, run.job
        assert host is not None
        if run.job.checkpoints and not run.began:
            host.happened(Restored(number, run.done, []))
        run.began = True
        if run.done < len(run.curve.metrics):
            run.done += 1
            host.happened(Reported(number, run.done, run.curve.metrics[run.done - 1]))
            if self._makes_checkpoints:
                path = f"simulated/{number:06d}/step-{run.done:08d}-a{attempt}"
                host.happened(Checkpointed(number, run.done, path, "", 0))
                if host.should_pause(number):
                    self._leave(run)
                    host.happened(Paused(number))
                    return
        if run.gives_way and not run.told and run.done < len(run.curve.metrics):
            self._leave(run)
            host.happened(Preempted(number, run.gives_way))
            return
        if run.told or run.done >= len(run.curve.metrics):
            self._leave(run)
            host.happened(Returned(number, {}))
        else:
            self._plan(run, self._clock.monotonic())

    def _leave(self, run: _Run) -> None:
        del self._runs[run.job.number]
        heapq.heappush(self._idle, run.worker)

    def _suggest_s(self) -> float:
        if self._costs.suggest_s is not None:
            return self._costs.suggest_s
        return time.perf_counter() - self._idle_since

    def _move_clock(self, to_s: float) -> None:
        self._clock.advance(max(0.0, to_s - self._clock.monotonic()))
