"""Reading a store: short questions over a connection that can't write, while studies run or long after."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from velodrome.errors import NotFoundError
from velodrome.records import (
    TRIALS_PER_STUDY,
    ArtifactRow,
    CheckpointRow,
    DecisionRow,
    EventRow,
    MetricRow,
    StudyRow,
    TrialRow,
    trial_id,
)
from velodrome.store import studies
from velodrome.store.connect import open_readonly
from velodrome.store.faults import store_error
from velodrome.store.log import read_log
from velodrome.store.migrations import ARTIFACT_COLUMNS, DECISION_COLUMNS
from velodrome.store.query import ask
from velodrome.types import Params

_TRIALS = f"SELECT {', '.join(TrialRow._fields)} FROM trials"
_METRICS = f"SELECT {', '.join(MetricRow._fields)} FROM metrics"
_DECISIONS = f"SELECT {', '.join(DECISION_COLUMNS)} FROM decisions"
_ARTIFACTS = f"SELECT {', '.join(ARTIFACT_COLUMNS)} FROM artifacts"


class Reader:
    """Opens a store to read. It never slows, blocks or changes anything; not for two threads at once.

    Args:
        path: The store.

    Raises:
        NotFoundError: If there is no store at that path.
        StoreError: If the file is damaged, is no store, or is of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._conn = open_readonly(self.path)

    # --- studies

    def studies(self) -> list[StudyRow]:
        """All studies, oldest first."""
        return [StudyRow._make(row) for row in self._rows(f"SELECT {studies.COLUMNS} FROM studies ORDER BY id")]

    def study(self, name: str) -> StudyRow:
        """The study of that name.

        Raises:
            NotFoundError: If there is none; it names the nearest.
        """
        try:
            return studies.get(self._conn, name)
        except sqlite3.Error as error:
            raise store_error(error, self.path, "reading") from error

    def counts(self, study_id: int) -> dict[str, int]:
        """How many trials of a study are in each state; states without a trial are left out."""
        sql = "SELECT state, count(*) FROM trials WHERE study_id = ? GROUP BY state"
        return dict(self._rows(sql, (study_id,)))

    def all_counts(self) -> dict[int, dict[str, int]]:
        """The same for every study that has a trial, by the study's id."""
        counts: dict[int, dict[str, int]] = {}
        for study_id, state, count in self._rows(
            "SELECT study_id, state, count(*) FROM trials GROUP BY study_id, state"
        ):
            counts.setdefault(study_id, {})[state] = count
        return counts

    # --- trials

    def trials(self, study_id: int, *, state: str | None = None) -> list[TrialRow]:
        """A study's trials by number; only those in a state, where one is given."""
        sql = f"{_TRIALS} WHERE id >= ? AND id < ?" + (" AND state = ?" if state else "") + " ORDER BY id"
        parameters = (*_ids(study_id), state) if state else _ids(study_id)
        return [TrialRow._make(row) for row in self._rows(sql, parameters)]

    def trial(self, study_id: int, number: int) -> TrialRow:
        """One trial.

        Raises:
            NotFoundError: If the study has no trial of that number; it says which there are.
        """
        rows = self._rows(f"{_TRIALS} WHERE id = ?", (trial_id(study_id, number),))
        if not rows:
            ((last,),) = self._rows("SELECT max(number) FROM trials WHERE study_id = ?", (study_id,))
            raise NotFoundError(
                "The study has no trial of that number", given=str(number),
                allowed="no trial has been started yet" if last is None else f"0 to {last}",
            )
        return TrialRow._make(rows[0])

    def best(self, study_id: int, count: int = 1) -> list[TrialRow]:
        """The best completed trials by the goal's first metric, best first."""
        sql = f"{_TRIALS} WHERE study_id = ? AND state = 'completed' AND score IS NOT NULL ORDER BY score LIMIT ?"
        return [TrialRow._make(row) for row in self._rows(sql, (study_id, count))]

    def params(self, trial_id: int) -> Params:
        """A trial's parameters by name, as they were given (NaN as None)."""
        sql = "SELECT name, value, is_bool FROM params WHERE trial_id = ?"
        return {name: bool(value) if is_bool else value for name, value, is_bool in self._rows(sql, (trial_id,))}

    def all_params(self, study_id: int) -> dict[int, Params]:
        """The parameters of all trials of a study, by the trial's id."""
        sql = "SELECT trial_id, name, value, is_bool FROM params WHERE trial_id >= ? AND trial_id < ?"
        params: dict[int, Params] = {}
        for key, name, value, is_bool in self._rows(sql, _ids(study_id)):
            params.setdefault(key, {})[name] = bool(value) if is_bool else value
        return params

    def metrics(self, trial_id: int) -> list[MetricRow]:
        """What a trial reported, by step and name. NaN is NaN again."""
        rows = self._rows(f"{_METRICS} WHERE trial_id = ? ORDER BY step, name", (trial_id,))
        return [
            MetricRow(key, name, step, float("nan") if value is None else value, seq, at)
            for key, name, step, value, seq, at in rows
        ]

    def artifacts(self, trial_id: int) -> list[ArtifactRow]:
        """Where the files of a trial lie, by kind and attempt."""
        sql = f"{_ARTIFACTS} WHERE trial_id = ? ORDER BY kind, attempt, path"
        return [ArtifactRow._make(row) for row in self._rows(sql, (trial_id,))]

    def checkpoints(self, trial_id: int) -> list[CheckpointRow]:
        """A trial's checkpoints, by step."""
        sql = f"SELECT {', '.join(CheckpointRow._fields)} FROM checkpoints WHERE trial_id = ? ORDER BY step"
        return [CheckpointRow._make(row) for row in self._rows(sql, (trial_id,))]

    def all_checkpoints(self, study_id: int) -> list[CheckpointRow]:
        """The checkpoints of all trials of a study, by trial and step."""
        sql = (f"SELECT {', '.join(CheckpointRow._fields)} FROM checkpoints WHERE trial_id >= ? AND trial_id < ? "
               "ORDER BY trial_id, step")
        return [CheckpointRow._make(row) for row in self._rows(sql, _ids(study_id))]

    def attrs(self, trial_id: int) -> dict[str, str]:
        """A trial's user attributes: JSON by name."""
        return dict(self._rows("SELECT name, value FROM attrs WHERE trial_id = ? ORDER BY name", (trial_id,)))

    # --- the log

    def events(self, study_id: int, *, metrics: Sequence[str] = ()) -> Iterator[EventRow]:
        """A study's log in order.

        Args:
            study_id: The study.
            metrics: Merge the reports of these in, as events of kind ``reported`` with ``[step, {metric: value}]`` as
                data; all from one moment, so read them to the end without delay. Without any, reports are left out.

        Raises:
            StoreError: If the store can't be read; while iterating, too.
        """
        return read_log(self.path, study_id, metrics)

    def last_seq(self, study_id: int) -> int:
        """The number of the last event or report in a study's log; 0 where it is empty.

        Reports later than the last event are by trials that are not finished: only theirs are looked at.
        """
        sql = """SELECT max(
          (SELECT coalesce(max(seq), 0) FROM events WHERE study_id = :study),
          (SELECT coalesce(max(m.seq), 0) FROM trials t CROSS JOIN metrics m ON m.trial_id = t.id
           WHERE t.study_id = :study AND t.state NOT IN ('completed', 'pruned', 'failed')))"""
        ((seq,),) = self._rows(sql, {"study": study_id})
        return int(seq)

    def decisions(self, study_id: int, number: int | None = None) -> list[DecisionRow]:
        """The decisions taken in a study, in order; only those about one trial, where its number is given."""
        if number is None:
            rows = self._rows(f"{_DECISIONS} WHERE study_id = ? ORDER BY seq, id", (study_id,))
        else:
            sql = f"{_DECISIONS} WHERE study_id = ? AND trial_id = ? ORDER BY seq, id"
            rows = self._rows(sql, (study_id, trial_id(study_id, number)))
        return [DecisionRow._make(row) for row in rows]

    # --- anything else

    def query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), *, time_limit_s: float | None = None
    ) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """The columns and rows that a question in SQL gives. It can read everything and change nothing.

        Args:
            sql: One ``SELECT`` (or ``WITH``, ``VALUES``, ``EXPLAIN``, or a ``PRAGMA`` that describes a table).
            parameters: Values for ``?`` or for ``:name``.
            time_limit_s: Give up after so long; no limit where None.

        Raises:
            UsageError: If it is not one question that reads, if SQLite can't make sense of it, or if it takes too long;
                while iterating, too.
            StoreError: If the store can't be read.
        """
        return ask(self.path, sql, parameters, time_limit_s)

    def problems(self) -> list[str]:
        """What is wrong with the file, in SQLite's words; empty for a sound one. Reads all of it."""
        return [line for (line,) in self._rows("PRAGMA quick_check") if line != "ok"]

    def close(self) -> None:
        """Closes the store. A second call does nothing."""
        self._conn.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows at once, so that no transaction stays open."""
        try:
            return self._conn.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise store_error(error, self.path, "reading") from error


def _ids(study_id: int) -> tuple[int, int]:
    """The first id of a study's trials, and the first beyond them."""
    return study_id * TRIALS_PER_STUDY, (study_id + 1) * TRIALS_PER_STUDY
