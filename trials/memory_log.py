"""A study's log in memory: for simulations, which are over in a moment and need no store."""

from __future__ import annotations

from typing import Any

from velodrome.records import CheckpointRow, DecisionRow, EventRow, MetricRow, TrialRow
from velodrome.types import Params


class MemoryLog:
    """Implements ``controller.Log``: keeps what a controller writes, in order. Checkpoints and views are not kept."""

    def __init__(self) -> None:
        self.events: list[EventRow] = []
        self.trials: dict[int, TrialRow] = {}
        """By number."""
        self.param_values: dict[int, Params] = {}
        """By the trial's id."""
        self.reports: list[MetricRow] = []
        self.decisions: list[DecisionRow] = []
        self.attrs: dict[tuple[int, str], str] = {}
        self.study: dict[str, Any] = {}

    def event(self, row: EventRow) -> None:
        """Keeps it."""
        self.events.append(row)

    def trial(self, row: TrialRow) -> None:
        """Keeps it in place of what was there."""
        self.trials[row.number] = row

    def params(self, trial_id: int, params: Params) -> None:
        """Keeps them besides those that are there."""
        self.param_values.setdefault(trial_id, {}).update(params)

    def metrics(self, rows: list[MetricRow]) -> None:
        """Keeps them."""
        self.reports += rows

    def forget_metrics(self, trial_id: int, after_step: int | None) -> None:
        """Drops a trial's reports after a step, or all."""
        self.reports = [
            row for row in self.reports
            if row.trial_id != trial_id or (after_step is not None and row.step <= after_step)
        ]

    def checkpoint(self, row: CheckpointRow) -> None:
        """Nothing."""

    def discard_checkpoint(self, trial_id: int, path: str) -> None:
        """Nothing."""

    def decision(self, row: DecisionRow) -> None:
        """Keeps it."""
        self.decisions.append(row)

    def attr(self, trial_id: int, name: str, value: str) -> None:
        """Keeps it."""
        self.attrs[trial_id, name] = value

    def update_study(self, study_id: int, **columns: Any) -> None:
        """Keeps them."""
        self.study.update(columns)

    def refresh_study_view(self, study_id: int) -> None:
        """Nothing."""

    def commit(self, *, durable: bool) -> None:
        """Nothing: all is kept already."""
