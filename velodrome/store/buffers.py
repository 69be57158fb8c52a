"""The rows that wait for a writer's next commit, and the statements that store them."""

from __future__ import annotations

import sqlite3
from typing import Any

from velodrome.records import (
    ArtifactRow,
    CheckpointRow,
    DecisionRow,
    EventRow,
    MetricRow,
    ParamRow,
    StudyRow,
    TrialRow,
)
from velodrome.store.migrations import ARTIFACT_COLUMNS, DECISION_COLUMNS
from velodrome.types import Params

_Cell = Any
_CHANGEABLE = frozenset(StudyRow._fields) - {"id", "name"}
_INT64 = 1 << 63


def _insert(table: str, columns: tuple[str, ...], key: tuple[str, ...] = ()) -> str:
    """The statement that stores a row; with a key, in place of the row that has the same.

    ``ON CONFLICT`` is a fifth quicker than ``REPLACE``, which removes the old row from every index first.
    """
    sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    if not key:
        return sql
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return f"{sql} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"


_TRIAL = _insert("trials", TrialRow._fields, ("id",))
_PARAM = _insert("params", (*ParamRow._fields, "is_bool"), ("trial_id", "name"))
_METRIC = _insert("metrics", MetricRow._fields, ("trial_id", "name", "step"))
_EVENT = _insert("events", EventRow._fields)
_DECISION = _insert("decisions", DECISION_COLUMNS)
_ARTIFACT = _insert("artifacts", ARTIFACT_COLUMNS, ("trial_id", "kind", "attempt", "path"))
_CHECKPOINT = _insert("checkpoints", CheckpointRow._fields, ("trial_id", "step"))
_ATTR = _insert("attrs", ("trial_id", "name", "value"), ("trial_id", "name"))
_FORGET = "DELETE FROM metrics WHERE trial_id = :trial_id AND (:step IS NULL OR step > :step)"
_DISCARD = "DELETE FROM checkpoints WHERE trial_id = ? AND path = ?"


class Buffers:
    """Rows by table, in the order in which they came. The writer adds to the public ones."""

    def __init__(self) -> None:
        self.events: list[EventRow] = []
        self.trials: dict[int, TrialRow] = {}
        self.metrics: list[MetricRow] = []
        self.decisions: list[DecisionRow] = []
        self.artifacts: list[ArtifactRow] = []
        self.checkpoints: list[CheckpointRow] = []
        self.attrs: list[tuple[int, str, str]] = []
        self._params: list[tuple[int, str, _Cell, int]] = []
        self._forgotten: dict[int, int | None] = {}
        """Trials whose stored reports go, with the step after which; None for all."""
        self._discarded: list[tuple[int, str]] = []
        self._studies: list[tuple[int, dict[str, _Cell]]] = []

    def __len__(self) -> int:
        return (
            len(self.events) + len(self.trials) + len(self.metrics) + len(self.decisions) + len(self.artifacts)
            + len(self.checkpoints) + len(self.attrs) + len(self._params) + len(self._forgotten) + len(self._studies)
            + len(self._discarded)
        )

    def add_params(self, trial_id: int, params: Params) -> None:
        """Adds a trial's parameters; a truth value as 1 or 0, with a mark."""
        self._params += [
            (trial_id, name, int(value), 1) if value is True or value is False else (trial_id, name, value, 0)
            for name, value in params.items()
        ]

    def forget_metrics(self, trial_id: int, after_step: int | None) -> None:
        """Drops the metrics of a trial after a step, or all: those that wait now, those stored at the next write."""
        self.metrics = [
            row for row in self.metrics
            if row.trial_id != trial_id or (after_step is not None and row.step <= after_step)
        ]
        before = self._forgotten.get(trial_id, after_step)
        self._forgotten[trial_id] = None if before is None or after_step is None else min(before, after_step)

    def discard_checkpoint(self, trial_id: int, path: str) -> None:
        """Drops a checkpoint that waits, or is stored, by its path."""
        self.checkpoints = [row for row in self.checkpoints if (row.trial_id, row.path) != (trial_id, path)]
        self._discarded.append((trial_id, path))

    def update_study(self, study_id: int, columns: dict[str, _Cell]) -> None:
        """Adds a change of a study's row.

        Raises:
            KeyError: If there is no such column, or it can't be changed.
        """
        if not columns.keys() <= _CHANGEABLE:
            raise KeyError(f"no such column to change: {sorted(columns.keys() - _CHANGEABLE)}")
        if columns:
            self._studies.append((study_id, columns))

    def write(self, conn: sqlite3.Connection) -> None:
        """Stores everything, inside the transaction that is open. Nothing is taken out of the buffers."""
        for study_id, columns in self._studies:
            changes = ", ".join(f"{name} = ?" for name in columns)
            conn.execute(f"UPDATE studies SET {changes} WHERE id = ?", (*columns.values(), study_id))
        if self._forgotten:
            conn.executemany(_FORGET, [{"trial_id": id_, "step": step} for id_, step in self._forgotten.items()])
        if self._discarded:
            conn.executemany(_DISCARD, self._discarded)
        if self.trials:
            conn.executemany(_TRIAL, map(tuple, self.trials.values()))
        for sql, rows in self._lists():
            if rows:
                conn.executemany(sql, map(tuple, rows))  # SQLite's module is slow with named tuples

    def make_storable(self) -> None:
        """Replaces what SQLite can't hold: lone surrogates by escapes, integers beyond 64 bits by floats.

        One such value from a user's program must not keep everything else from being stored.
        """
        for _, rows in self._lists():
            rows[:] = [tuple(map(_storable, row)) for row in rows]
        for key, trial in self.trials.items():
            self.trials[key] = TrialRow._make(map(_storable, trial))
        for _, columns in self._studies:
            columns.update({name: _storable(value) for name, value in columns.items()})

    def _lists(self) -> list[tuple[str, list[Any]]]:
        return [
            (_PARAM, self._params), (_METRIC, self.metrics), (_EVENT, self.events), (_DECISION, self.decisions),
            (_ARTIFACT, self.artifacts), (_CHECKPOINT, self.checkpoints), (_ATTR, self.attrs),
        ]


def _storable(cell: _Cell) -> _Cell:
    if isinstance(cell, str):
        return cell.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(cell, int) and not -_INT64 <= cell < _INT64:
        try:
            return float(cell)
        except OverflowError:
            return float("inf") if cell > 0 else float("-inf")
    return cell
