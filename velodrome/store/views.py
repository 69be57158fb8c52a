"""The views that people query: four over all studies, and a wide one for each study.

No view holds data. Each reads its rows in the order of an index, so that the first rows come at once however many
there are, and looks up parameters only for the rows and columns that a query asks for.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from velodrome.records import TRIALS_PER_STUDY

if TYPE_CHECKING:
    from sqlite_utils import Database

PREFIX = "study_"
"""The wide view of study ``digits`` is ``study_digits``."""
MAX_COLUMNS = 1_900
"""SQLite allows 2,000 columns; parameters and metrics beyond these are only in their tables."""

_PARAMS = """(SELECT json_group_object(p.name, CASE
      WHEN p.is_bool THEN json(CASE WHEN p.value THEN 'true' ELSE 'false' END) ELSE p.value END)
    FROM params p WHERE p.trial_id = t.id)"""

_VIEWS = {
    "leaderboard": f"""SELECT s.name AS study, t.number, t.state, t.value,
  {_PARAMS} AS params,
  t.metrics, t.finished_at - t.started_at AS duration_s, t.finished_at, t.id AS trial_id
FROM studies s CROSS JOIN trials t ON t.study_id = s.id
WHERE t.state IN ('completed', 'pruned') AND t.score IS NOT NULL
ORDER BY s.id, t.state, t.score""",
    "final_metrics": """SELECT s.name AS study, t.number, t.state, m.key AS name, m.value, t.id AS trial_id
FROM studies s CROSS JOIN trials t ON t.study_id = s.id CROSS JOIN json_each(t.metrics) m""",
    "reports": """SELECT s.name AS study, t.number, m.step, m.name, m.value, m.at, m.trial_id
FROM studies s CROSS JOIN trials t ON t.study_id = s.id CROSS JOIN metrics m ON m.trial_id = t.id""",
    "failures": """SELECT s.name AS study, t.number, t.state, t.failure_class,
  json_extract(t.failure, '$.message') AS message, json_extract(t.failure, '$.exception') AS exception,
  json_extract(t.failure, '$.file') AS file, json_extract(t.failure, '$.line') AS line, t.attempt, t.id AS trial_id
FROM studies s CROSS JOIN trials t ON t.study_id = s.id WHERE t.failure IS NOT NULL""",
}

_FIRST_COLUMNS = {"number": "t.number", "state": "t.state", "value": "t.value"}
_LAST_COLUMNS = {
    "duration_s": "t.finished_at - t.started_at", "started_at": "t.started_at", "finished_at": "t.finished_at",
    "attempt": "t.attempt", "seed": "t.seed", "worker": "t.worker", "device": "t.device",
    "failure_class": "t.failure_class", "reason": "t.reason", "trial_id": "t.id",
}
_PLAIN = re.compile(r"[A-Za-z0-9_ ./:@-]+")


def make_views(db: Database) -> None:
    """Makes the views over all studies, in place of older ones."""
    for name, sql in _VIEWS.items():
        db.create_view(name, sql, replace=True)


def study_view_name(study: str) -> str:
    """The name of a study's wide view."""
    return PREFIX + study


def study_view_sql(study: str, study_id: int, params: Iterable[str], metrics: Iterable[str]) -> str:
    """The ``CREATE VIEW`` of a study's wide view: a row per trial, a column per parameter and per final metric.

    Columns are named as the parameter or metric is. Where that is the name of a column before it (SQLite does not tell
    ``LR`` from ``lr``), a parameter is called ``param_NAME``, a metric ``metric_NAME``, with a number where needed.
    """
    columns = [f"{sql} AS {quoted(name)}" for name, sql in _FIRST_COLUMNS.items()]
    columns += _named_columns(sorted(params), sorted(metrics))[:MAX_COLUMNS]
    columns += [f"{sql} AS {quoted(name)}" for name, sql in _LAST_COLUMNS.items()]
    first = study_id * TRIALS_PER_STUDY
    body = ",\n  ".join(columns)
    return (
        f"CREATE VIEW {quoted(study_view_name(study))} AS SELECT {body}\n"
        f"FROM trials t WHERE t.id >= {first} AND t.id < {first + TRIALS_PER_STUDY} ORDER BY t.id"
    )


def replace_study_view(conn: sqlite3.Connection, study_id: int, params: Iterable[str], metrics: Iterable[str]) -> None:
    """Makes a study's wide view anew, where it would differ from what is there. The caller has a transaction open.

    Args:
        conn: The connection.
        study_id: The study.
        params: Parameters to show besides those that are stored.
        metrics: Final metrics to show besides those that are stored.
    """
    (study,) = conn.execute("SELECT name FROM studies WHERE id = ?", (study_id,)).fetchone()
    trials = (study_id * TRIALS_PER_STUDY, (study_id + 1) * TRIALS_PER_STUDY)
    stored = conn.execute("SELECT DISTINCT name FROM params WHERE trial_id >= ? AND trial_id < ?", trials)
    all_params = {*params, *(name for (name,) in stored)}
    stored = conn.execute(
        "SELECT DISTINCT m.key FROM trials t CROSS JOIN json_each(t.metrics) m WHERE t.id >= ? AND t.id < ?", trials
    )
    all_metrics = {*metrics, *(name for (name,) in stored)}
    wanted = study_view_sql(study, study_id, all_params, all_metrics)
    there = conn.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'view' AND name = ? COLLATE NOCASE", (study_view_name(study),)
    ).fetchone()
    if there == (wanted,):
        return
    if there:
        conn.execute(f"DROP VIEW {quoted(study_view_name(study))}")
    conn.execute(wanted)


def quoted(name: str) -> str:
    """A name as SQL: any text can be one."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _named_columns(params: list[str], metrics: list[str]) -> list[str]:
    taken = {name.lower() for name in (*_FIRST_COLUMNS, *_LAST_COLUMNS)}
    columns = []
    for prefix, names in (("param_", params), ("metric_", metrics)):
        make = _param if prefix == "param_" else _metric
        for name in names:
            free = next(c for c in _candidates(name, prefix) if c.lower() not in taken)
            taken.add(free.lower())
            columns.append(f"{make(name)} AS {quoted(free)}")
    return columns


def _candidates(name: str, prefix: str) -> Iterator[str]:
    yield name
    yield prefix + name
    for count in range(2, MAX_COLUMNS + 2):
        yield f"{prefix}{name}_{count}"


def _param(name: str) -> str:
    return f"(SELECT p.value FROM params p WHERE p.trial_id = t.id AND p.name = {_literal(name)})"


def _metric(name: str) -> str:
    """Quick for names that can stand in a JSON path; right for any other."""
    if _PLAIN.fullmatch(name):
        return f"json_extract(t.metrics, '$.\"{name}\"')"
    return f"(SELECT m.value FROM json_each(t.metrics) m WHERE m.key = {_literal(name)})"
