from __future__ import annotations

import json
import math

import pytest

from velodrome.errors import NotFoundError, StoreError, UsageError
from velodrome.records import EventRow, MetricRow, trial_id
from velodrome.store.log import _PAGE
from velodrome.store.reader import Reader


@pytest.fixture
def filled(writer, study_id, trial_row) -> int:
    for number, state in enumerate(["completed", "completed", "failed", "running"]):
        writer.trial(trial_row(study_id, number, number / 10 if state == "completed" else None, state=state))
    writer.commit(durable=False)
    return study_id


def test_counts_by_state(writer, reader, filled, study_row, trial_row):
    other = writer.create_study(study_row("other"))
    empty = writer.create_study(study_row("empty"))
    writer.trial(trial_row(other, 0, state="pruned"))
    writer.commit(durable=False)
    assert reader.counts(filled) == {"completed": 2, "failed": 1, "running": 1}
    assert reader.counts(empty) == {}
    assert reader.all_counts() == {filled: {"completed": 2, "failed": 1, "running": 1}, other: {"pruned": 1}}


def test_trials_of_a_state(reader, filled):
    assert [row.number for row in reader.trials(filled, state="completed")] == [0, 1]
    assert [row.number for row in reader.trials(filled)] == [0, 1, 2, 3]


def test_what_is_not_there_is_said_to_be_missing(reader, filled):
    with pytest.raises(NotFoundError, match="Did you mean 'digits'"):
        reader.study("digts")
    with pytest.raises(NotFoundError, match="velo ls"):
        reader.study("zzz")
    with pytest.raises(NotFoundError, match="0 to 3"):
        reader.trial(filled, 4)
    with pytest.raises(NotFoundError, match="no trial has been started"):
        reader.trial(filled + 1, 0)


def test_the_log_without_reports_spans_pages(writer, reader, study_id, study_row, event_row):
    other = writer.create_study(study_row("other"))
    count = 2 * _PAGE + 1
    for seq in range(1, count + 1):
        writer.event(event_row(study_id, 2 * seq, number=seq))
    writer.event(event_row(other, 1))
    writer.commit(durable=False)
    events = list(reader.events(study_id))
    assert [event.seq for event in events] == list(range(2, 2 * count + 1, 2))
    assert events[0] == event_row(study_id, 2, number=1)
    assert type(events[0]) is EventRow


def test_the_log_with_reports_has_one_event_per_report_of_that_metric(writer, reader, study_id, study_row, event_row):
    key, name = trial_id(study_id, 3), 'lo"ss\\é'
    values = [0.1, math.nan, math.inf, -math.inf, 1e300, 5e-324]
    for i, value in enumerate(values):
        writer.metrics([MetricRow(key, n, i, value, 3 * i + 2, 0.5) for n in (name, "acc")])
        writer.event(event_row(study_id, 3 * i + 1, "launched", 3))
        writer.event(event_row(study_id, 3 * i + 3, "returned", None))
    other = writer.create_study(study_row("other"))
    writer.metrics([MetricRow(trial_id(other, 0), name, 0, 0.0, 2, 0.5)])
    writer.commit(durable=False)
    events = list(reader.events(study_id, metrics=(name,)))
    assert [e.seq for e in events] == list(range(1, 3 * len(values) + 1))
    reports = [e for e in events if e.kind == "reported"]
    assert [(e.study_id, e.at, e.number) for e in reports] == [(study_id, 0.5, 3)] * len(values)
    for i, (event, value) in enumerate(zip(reports, values, strict=True)):
        step, metrics = json.loads(event.data)
        assert step == i
        assert metrics == pytest.approx({name: value}, rel=0, abs=0, nan_ok=True)
    assert [e.kind for e in reader.events(study_id, metrics=("nosuch",))].count("reported") == 0


def test_the_log_with_reports_is_of_one_moment(writer, reader, study_id, event_row):
    def write(seqs):
        for seq in seqs:
            writer.event(event_row(study_id, 2 * seq))
            writer.metrics([MetricRow(trial_id(study_id, 0), "loss", seq, 0.0, 2 * seq + 1, 0.0)])
        writer.commit(durable=False)

    write(range(1, _PAGE + 10))
    events = reader.events(study_id, metrics=("loss",))
    first = next(events)
    write(range(_PAGE + 10, _PAGE + 20))
    assert len([first, *events]) == 2 * (_PAGE + 9)
    assert len(list(reader.events(study_id, metrics=("loss",)))) == 2 * (_PAGE + 19)


def test_the_last_number_of_the_log_counts_reports(writer, reader, study_id, event_row, trial_row):
    assert reader.last_seq(study_id) == 0
    writer.event(event_row(study_id, 4))
    writer.trial(trial_row(study_id, 0, state="running"))
    writer.commit(durable=False)
    assert reader.last_seq(study_id) == 4
    writer.metrics([MetricRow(trial_id(study_id, 0), "loss", 0, 0.0, 6, 0.0)])
    writer.commit(durable=False)
    assert reader.last_seq(study_id) == 6


# --- query


@pytest.mark.parametrize(("sql", "parameters", "answer"), [
    ("select number from trials where state = ? order by number", ("completed",), [(0,), (1,)]),
    ("select number from trials where number > :least", {"least": 2}, [(3,)]),
    ("with t as (select 1 as a) select a + 1 as b from t;", (), [(2,)]),
    ("values (1), (2)", (), [(1,), (2,)]),
    ("select 1 where 0", (), []),
    ("with recursive n(i) as (select 1 union all select i + 1 from n where i < 3) select sum(i) from n", (), [(6,)]),
    ("pragma user_version", (), [(1,)]),
    ("select name from pragma_table_info('metrics') limit 1", (), [("trial_id",)]),
    ("select value from json_each('[7]')", (), [(7,)]),
])
def test_questions(reader, filled, sql, parameters, answer):
    columns, rows = reader.query(sql, parameters)
    assert list(rows) == answer
    assert len(columns) == 1


@pytest.mark.parametrize("sql", [
    "delete from trials", "update trials set value = 1", "insert into studies (name) values ('x')", "drop table trials",
    "create table t (a)", "create temp table t (a)", "attach database 'other.db' as o", "detach database main",
    "pragma journal_mode = delete", "pragma user_version = 9", "pragma query_only = 0", "begin", "begin immediate",
    "commit", "savepoint s", "vacuum", "vacuum into 'copy.db'", "reindex", "analyze", "pragma wal_checkpoint(truncate)",
    "with t as (select 1) delete from trials", "explain delete from trials", "", " ", "-- nothing",
])
def test_what_would_change_something_is_refused(path, reader, filled, sql):
    with pytest.raises(UsageError, match="can only read"):
        reader.query(sql)
    assert len(reader.trials(filled)) == 4
    assert sorted(p.name for p in path.parent.iterdir() if "results" not in p.name) == []


@pytest.mark.parametrize("sql", [
    "select * from study_a-2", "select v.value from study_a-2 v", "select count(*) from study_a-2 limit 1",
])
def test_a_view_whose_name_needs_quotes_is_shown_with_them(writer, reader, study_row, sql):
    writer.refresh_study_view(writer.create_study(study_row("a-2")))
    with pytest.raises(UsageError, match='"study_a-2"'):
        reader.query(sql)
    assert reader.query('select * from "study_a-2"')[0]


@pytest.mark.parametrize(("sql", "message"), [
    ("select 1; select 2", "more than one statement"),
    ("select 1; drop table trials", "more than one statement"),
    ("select * from trails", r"no such table: trails.*\n.*\n.*trials.*\n.*Did you mean 'trials'"),
    ("select valeu from trials", r"no such column: valeu.*\n.*\n.*value.*\n.*Did you mean 'value'"),
    ("select t.staet from trials t", "Did you mean 'state'"),
    ("select study from trials", r"allowed: (?!.*\bgoal\b).*\bstate\b.*\n.*study is a column of .*leaderboard"),
    ("selekt 1", "syntax error"),
    ("update sqlite_master set sql = ''", "may not be modified"),
    ("select nosuch(1)", "no such function"),
    ("select load_extension('x')", "can only read"),
    ("select ?", "does not understand"),
    ("select json_extract('{', '$')", "malformed JSON"),
])
def test_a_wrong_question_gets_an_explanation(reader, filled, sql, message):
    with pytest.raises(UsageError, match=message):
        reader.query(sql)


def test_a_question_that_takes_too_long_is_given_up(reader):
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select {} from n"
    with pytest.raises(UsageError, match="too long"):
        reader.query(endless.format("max(i)"), time_limit_s=0.02)
    _, rows = reader.query(endless.format("i"), time_limit_s=0.2)
    assert next(rows) == (1,)
    with pytest.raises(UsageError, match="too long"):
        for _ in rows:
            pass


def test_a_short_answer_holds_nothing_open(path, writer, reader, filled, trial_row):
    _, rows = reader.query("select number from trials")
    assert next(rows) == (0,)
    writer.trial(trial_row(filled, 4, reason="x" * 5_000))
    writer.commit(durable=False)
    assert writer._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0), "no reader in the way"
    assert list(rows) == [(1,), (2,), (3,)]


def test_a_long_answer_is_complete(writer, reader):
    numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 120000) select i from n"
    _, rows = reader.query(numbers)
    assert [i for (i,) in rows] == list(range(1, 120_001))


def test_a_reader_that_is_closed_or_was_never_open(path, writer):
    with Reader(path) as reader:
        pass
    reader.close()
    with pytest.raises(StoreError):
        reader.studies()
