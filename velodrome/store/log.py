"""Reading a study's log back in order, with or without its reports."""

from __future__ import annotations

import heapq
import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from velodrome.records import TRIALS_PER_STUDY, EventRow
from velodrome.store.connect import open_readonly
from velodrome.store.faults import store_error

_PAGE = 20_000
_EVENTS = (
    "SELECT study_id, seq, at, kind, number, data FROM events WHERE study_id = ? AND seq > ? ORDER BY seq "
    f"LIMIT {_PAGE}"
)
_REPORTS = (
    "SELECT seq, at, trial_id, step, name, value FROM metrics WHERE trial_id >= ? AND trial_id < ? AND name IN ({}) "
    "ORDER BY seq"
)


def read_log(path: Path, study_id: int, metrics: Sequence[str]) -> Iterator[EventRow]:
    """The events of a study by ``seq``; with metrics, their reports among them (see ``Reader.events``).

    Without a metric the log is read in pages, each a transaction of its own: it only ever grows at its end. With some,
    everything is read in one transaction.

    Raises:
        StoreError: If the store can't be read.
    """
    conn = open_readonly(path)
    try:
        if not metrics:
            yield from _events(conn, study_id)
        else:
            conn.execute("BEGIN")
            yield from heapq.merge(_events(conn, study_id), _reports(conn, study_id, metrics), key=itemgetter(1))
    except sqlite3.Error as error:
        raise store_error(error, path, "reading the log") from error
    finally:
        conn.close()


def _events(conn: sqlite3.Connection, study_id: int) -> Iterator[EventRow]:
    last_seq = 0
    while rows := conn.execute(_EVENTS, (study_id, last_seq)).fetchall():
        yield from map(EventRow._make, rows)
        last_seq = rows[-1][1]


def _reports(conn: sqlite3.Connection, study_id: int, metrics: Sequence[str]) -> Iterator[EventRow]:
    first, keys = study_id * TRIALS_PER_STUDY, {metric: json.dumps(metric) for metric in metrics}
    sql = _REPORTS.format(", ".join("?" * len(metrics)))
    rows = conn.execute(sql, (first, first + TRIALS_PER_STUDY, *metrics))
    for seq, of_one in groupby(rows, key=itemgetter(0)):  # the figures of one report
        figures = list(of_one)
        _, at, trial_id, step, _, _ = figures[0]
        data = ", ".join(f"{keys[name]}: {_json(value)}" for *_, name, value in figures)
        yield EventRow(study_id, seq, at, "reported", trial_id - first, f"[{step}, {{{data}}}]")


def _json(value: float | None) -> str:
    if value is None:
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)
