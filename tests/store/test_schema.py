from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

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
from velodrome.store import connect, migrations, schema
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer

_RECORDS = {
    "studies": StudyRow, "trials": TrialRow, "params": ParamRow, "metrics": MetricRow, "events": EventRow,
    "decisions": DecisionRow, "artifacts": ArtifactRow, "checkpoints": CheckpointRow,
}
_RENAMED = {"by": "decided_by", "start": "start_byte", "end": "end_byte"}


@pytest.mark.parametrize("table", _RECORDS)
def test_tables_have_the_columns_of_their_records(writer, table):
    columns = [row[1] for row in writer._conn.execute(f"PRAGMA table_info({table})")]
    wanted = [_RENAMED.get(name, name) for name in _RECORDS[table]._fields]
    assert [name for name in columns if name in wanted] == wanted
    assert set(columns) - set(wanted) == {"decisions": {"id"}, "params": {"is_bool"}}.get(table, set())


def _add_cost(db):
    db["trials"].add_column("cost", float)


def _fill_cost(db):
    db.execute("UPDATE trials SET cost = value * 2")


def _fail(db):
    db["trials"].add_column("oops", str)
    raise RuntimeError("a step that fails")


def _columns(conn):
    return [row[1] for row in conn.execute("PRAGMA table_info(trials)")]


def test_an_older_store_is_migrated_with_its_rows(path, monkeypatch, study_row, trial_row):
    with Writer(path) as writer:
        study_id = writer.create_study(study_row())
        writer.trial(trial_row(study_id, 0, 0.5))
        writer.commit(durable=True)
    steps = (*migrations.MIGRATIONS, _add_cost, _fill_cost)
    monkeypatch.setattr(schema, "VERSION", len(steps))
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with pytest.raises(Exception, match="older version"):
        Reader(path)
    with Writer(path) as writer:
        assert schema.read_stamp(writer._conn) == (schema.APPLICATION_ID, len(steps), False)
        assert writer._conn.execute("SELECT number, cost FROM trials").fetchall() == [(0, 1.0)]
    with Reader(path) as reader:
        assert reader.trial(study_id, 0).value == 0.5


def test_a_migration_that_fails_changes_nothing(path, study_row):
    with Writer(path) as writer:
        writer.create_study(study_row())
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        before = list(conn.iterdump())
        with pytest.raises(RuntimeError, match="a step that fails"):
            schema.migrate(conn, (*migrations.MIGRATIONS, _add_cost, _fail))
        assert list(conn.iterdump()) == before
        assert schema.read_stamp(conn).version == schema.VERSION
        schema.migrate(conn, (*migrations.MIGRATIONS, _add_cost))
        assert "cost" in _columns(conn)


def test_several_processes_may_make_one_store_at_once(path):
    code = "import sys; from velodrome.store.writer import Writer; Writer(sys.argv[1]).close()"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    with Reader(path) as reader:
        assert reader.problems() == []


def test_opening_a_store_of_this_version_does_not_load_sqlite_utils(path):
    Writer(path).close()
    code = (
        "import sys; from velodrome.store.writer import Writer; from velodrome.store.reader import Reader; "
        "Writer(sys.argv[1]).close(); Reader(sys.argv[1]).close(); "
        "print([m for m in ('sqlite_utils', 'numpy', 'psutil') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_page_on_the_store_names_every_table_view_and_column(writer):
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
    words = set(re.findall(r"`([^`\n]+)`", page))
    names = writer._conn.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
    for (name,) in names:
        assert name in words
        missing = [row[1] for row in writer._conn.execute(f"PRAGMA table_info({name})") if row[1] not in words]
        assert missing == [], name


def test_every_query_on_the_page_runs(writer, reader, study_id):
    writer.params(1, {"lr": 1})
    writer.refresh_study_view(study_id, params=["lr", "width"], metrics=["accuracy"])
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
    blocks = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    questions = [question for block in blocks for question in block.split(";") if question.strip()]
    assert len(questions) >= 8
    for question in questions:
        list(reader.query(question)[1])


def test_the_writers_pragmas_hold(writer):
    def value(name):
        return writer._conn.execute(f"PRAGMA {name}").fetchone()[0]

    assert value("journal_mode") == "wal"
    assert value("wal_autocheckpoint") == 0
    assert value("journal_size_limit") == 0
    assert value("cache_size") == -connect._CACHE_KIB
