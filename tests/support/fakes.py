"""A store's writer that only remembers, and an executor whose workers follow a script: both keep their contracts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from velodrome.errors import StoreFullError
from velodrome.records import CheckpointRow, DecisionRow, EventRow, MetricRow, TrialRow
from velodrome.resources.slots import Slot
from velodrome.trials import events as ev
from velodrome.trials.executor import Host, Job, ObjectiveInfo, StudyContext
from velodrome.types import Params


class MemoryLog:
    """Keeps what is committed. ``is_full`` makes commits fail, as a full disk does: nothing is lost by it."""

    def __init__(self) -> None:
        self.events: list[EventRow] = []
        self.trials: dict[int, TrialRow] = {}
        self.param_values: dict[int, Params] = {}
        self.metric_rows: list[MetricRow] = []
        self.decisions: list[DecisionRow] = []
        self.checkpoints: list[CheckpointRow] = []
        self.study: dict[str, Any] = {}
        self.durable: list[bool] = []
        self.views = 0
        self.is_full = False
        self._waiting: list[Callable[[], Any]] = []

    def event(self, row: EventRow) -> None:
        self._waiting.append(lambda: self.events.append(row))

    def trial(self, row: TrialRow) -> None:
        self._waiting.append(lambda: self.trials.__setitem__(row.number, row))

    def params(self, trial_id: int, params: Params) -> None:
        copy = dict(params)
        self._waiting.append(lambda: self.param_values.setdefault(trial_id, {}).update(copy))

    def metrics(self, rows: list[MetricRow]) -> None:
        self._waiting.append(lambda: self.metric_rows.extend(rows))

    def forget_metrics(self, trial_id: int, after_step: int | None) -> None:
        def forget() -> None:
            self.metric_rows = [
                row for row in self.metric_rows
                if row.trial_id != trial_id or (after_step is not None and row.step <= after_step)
            ]

        self._waiting.append(forget)

    def checkpoint(self, row: CheckpointRow) -> None:
        self._waiting.append(lambda: self.checkpoints.append(row))

    def discard_checkpoint(self, trial_id: int, path: str) -> None:
        def discard() -> None:
            self.checkpoints = [row for row in self.checkpoints if (row.trial_id, row.path) != (trial_id, path)]

        self._waiting.append(discard)

    def decision(self, row: DecisionRow) -> None:
        self._waiting.append(lambda: self.decisions.append(row))

    def attr(self, trial_id: int, name: str, value: str) -> None:
        self._waiting.append(lambda: None)

    def update_study(self, study_id: int, **columns: Any) -> None:
        self._waiting.append(lambda: self.study.update(columns))

    def refresh_study_view(self, study_id: int) -> None:
        self.views += 1

    def commit(self, *, durable: bool) -> None:
        if self.is_full:
            raise StoreFullError("The store is full")
        for write in self._waiting:
            write()
        self._waiting.clear()
        self.durable.append(durable)


class ScriptedExecutor:
    """One place; each trial's life is what ``script`` does with the host."""

    runs_here = False
    gpu_peak_bytes = 0

    def __init__(self, script: Callable[[Host, Job], None], places: int = 1) -> None:
        self._script = script
        self._places = places
        self._jobs: list[Job] = []
        self._host: Host | None = None
        self.stopped: list[int] = []
        self.preempted: list[int] = []
        self.slots = [Slot(index) for index in range(places)]
        self.resized: list[tuple[int, str, float, float]] = []
        self.closed = False

    def describe(self) -> ObjectiveInfo:
        return ObjectiveInfo("train", "")

    def open(self, host: Host, context: StudyContext) -> None:
        self._host = host

    def room(self) -> int:
        return self._places - len(self._jobs)

    def launch(self, job: Job) -> tuple[str, str]:
        self._jobs.append(job)
        return "w0", "cpu"

    def stop(self, number: int, reason: str) -> None:
        self.stopped.append(number)

    def preempt(self, number: int, reason: str, grace_s: float) -> None:
        self.preempted.append(number)

    def abandon(self, number: int, event: ev.Event) -> None:
        assert self._host is not None
        self._host.happened(event)

    def held(self) -> list[Slot]:
        return self.slots

    def resize(self, slots: Sequence[Slot], reason: str, leave_s: float, grace_s: float) -> None:
        self.slots, self._places = list(slots), len(slots)
        self.resized.append((len(slots), reason, leave_s, grace_s))

    def poll(self, timeout_s: float) -> None:
        assert self._host is not None
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            self._script(self._host, job)

    def close(self) -> None:
        if not self.closed and self._host is not None:
            for job in self._jobs:
                self._host.happened(ev.GivenBack(job.number))
        self.closed = True
