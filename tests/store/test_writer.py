from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from velodrome.errors import (
    NotFoundError,
    StoreError,
    StoreFullError,
    StudyBusyError,
    StudyExistsError,
    UsageError,
)
from velodrome.owner import Owner
from velodrome.records import ArtifactRow, CheckpointRow, DecisionRow, MetricRow, trial_id
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer


def test_every_kind_of_row_comes_back_as_it_went_in(writer, reader, study_id, trial_row, event_row):
    key = trial_id(study_id, 3)
    params = {
        "lr": 0.1, "width": 3, "act": "relu", "bias": True, "norm": False, "none": None, "digits": "1", "far": math.inf,
    }
    rows = {
        "trial": trial_row(study_id, 3, metrics='{"loss":0.5}', reason="why"),
        "event": event_row(study_id, 1, "suggested", 3, '[{"lr":0.1}]'),
        "decision": DecisionRow(study_id, 1, key, 2.0, "scheduler", "stop", "too slow"),
        "artifact": ArtifactRow(key, "log", 1, "digits/3.log", 0, 99),
        "checkpoint": CheckpointRow(key, 5, "ckpt/3", "ab" * 32, 1 << 40, 3.0),
    }
    for kind, row in rows.items():
        getattr(writer, kind)(row)
    writer.params(key, params)
    metric = MetricRow(key, "loss", 0, 0.5, 2, 1.5)
    writer.metrics([metric])
    writer.attr(key, "host", '{"name": "a"}')
    assert writer.pending == len(rows) + len(params) + 2
    writer.commit(durable=True)

    assert writer.pending == 0
    assert reader.trials(study_id) == [reader.trial(study_id, 3)] == [rows["trial"]]
    assert list(reader.events(study_id)) == [rows["event"]]
    assert reader.decisions(study_id) == reader.decisions(study_id, 3) == [rows["decision"]]
    assert reader.decisions(study_id, 4) == []
    assert reader.artifacts(key) == [rows["artifact"]]
    assert reader.checkpoints(key) == [rows["checkpoint"]]
    assert reader.metrics(key) == [metric]
    assert reader.attrs(key) == {"host": '{"name": "a"}'}
    stored = reader.params(key)
    assert stored == params
    assert {name: type(value) for name, value in stored.items()} == {name: type(v) for name, v in params.items()}
    assert reader.all_params(study_id) == {key: stored}


def test_nothing_is_seen_before_the_commit(writer, reader, study_id, trial_row):
    writer.trial(trial_row(study_id, 0))
    assert reader.trials(study_id) == []
    writer.commit(durable=False)
    assert len(reader.trials(study_id)) == 1


def test_the_last_row_of_a_trial_wins_within_a_commit_and_across_commits(writer, reader, study_id, trial_row):
    for value in (1.0, 2.0):
        writer.trial(trial_row(study_id, 0, value))
        writer.params(trial_id(study_id, 0), {"a": value})
    writer.commit(durable=False)
    assert reader.trial(study_id, 0).value == 2.0
    writer.trial(trial_row(study_id, 0, 3.0, state="failed"))
    writer.params(trial_id(study_id, 0), {"a": 3.0})
    writer.commit(durable=False)
    assert (reader.trial(study_id, 0).value, reader.trial(study_id, 0).state) == (3.0, "failed")
    assert reader.params(trial_id(study_id, 0)) == {"a": 3.0}


def test_the_same_step_reported_again_replaces_the_first(writer, reader, study_id):
    writer.metrics([MetricRow(1, "loss", 4, 0.9, 1, 1.0), MetricRow(1, "loss", 4, 0.8, 2, 2.0)])
    writer.commit(durable=False)
    writer.metrics([MetricRow(1, "loss", 4, 0.7, 3, 3.0), MetricRow(1, "acc", 4, 0.1, 3, 3.0)])
    writer.commit(durable=False)
    assert reader.metrics(1) == [MetricRow(1, "acc", 4, 0.1, 3, 3.0), MetricRow(1, "loss", 4, 0.7, 3, 3.0)]


def test_nan_is_null_in_sql_and_nan_for_the_reader_and_infinities_stay(writer, reader, study_id):
    writer.metrics([MetricRow(1, name, 0, float(name), 1, 1.0) for name in ("nan", "inf", "-inf")])
    writer.commit(durable=False)
    assert list(reader.query("select name, value from metrics order by name")[1]) == [
        ("-inf", -math.inf), ("inf", math.inf), ("nan", None)
    ]
    values = {row.name: row.value for row in reader.metrics(1)}
    assert math.isnan(values["nan"])
    assert values["-inf"] == -math.inf


def test_forgotten_metrics_are_gone_from_store_and_buffer_and_others_stay(writer, reader, study_id):
    def row(key: int, step: int) -> MetricRow:
        return MetricRow(key, "loss", step, 0.0, step, 0.0)

    writer.metrics([row(1, 0), row(2, 0)])
    writer.commit(durable=False)
    writer.metrics([row(1, 1), row(2, 1)])
    writer.forget_metrics(1)
    writer.metrics([row(1, 7)])
    writer.commit(durable=False)
    assert [r.step for r in reader.metrics(1)] == [7]
    assert [r.step for r in reader.metrics(2)] == [0, 1]


def test_a_durable_commit_of_nothing_syncs_what_was_committed_before(writer, study_id, trial_row):
    statements: list[str] = []
    writer._conn.set_trace_callback(statements.append)
    writer.commit(durable=True)
    assert statements == [], "nothing is behind"
    writer.trial(trial_row(study_id, 0))
    writer.commit(durable=False)
    assert "PRAGMA synchronous = NORMAL" in statements
    statements.clear()
    writer.commit(durable=True)
    assert statements[0] == "PRAGMA synchronous = FULL"
    assert statements[-1] == "COMMIT"
    statements.clear()
    writer.commit(durable=True)
    assert statements == []


def test_a_value_that_sqlite_cannot_hold_does_not_keep_the_rest_out(writer, reader, study_id, trial_row):
    key = trial_id(study_id, 0)
    writer.trial(trial_row(study_id, 0, reason="bad \udcff name"))
    writer.params(key, {"big": 1 << 70, "huge": -(10 ** 400), "ok": 5})
    writer.update_study(study_id, note="\udcfe")
    writer.commit(durable=True)
    assert reader.trial(study_id, 0).reason == "bad \\udcff name"
    assert reader.params(key) == {"big": float(1 << 70), "huge": -math.inf, "ok": 5}
    assert reader.study("digits").note == "\\udcfe"


def test_a_full_store_keeps_the_rows_and_takes_them_when_there_is_room(path, study_row, trial_row):
    with Writer(path) as writer:
        study_id = writer.create_study(study_row())
    size = path.stat().st_size
    with Writer(path, max_bytes=size + 20_000) as writer, Reader(path) as reader:
        for number in range(2_000):
            writer.trial(trial_row(study_id, number, reason="x" * 50))
        for durable in (True, False):
            with pytest.raises(StoreFullError, match="out of room"):
                writer.commit(durable=durable)
            assert writer.pending == 2_000
            assert reader.trials(study_id) == []
        writer._conn.execute("PRAGMA max_page_count = 100000")
        writer.trial(trial_row(study_id, 1_999, reason="last"))
        writer.commit(durable=True)
        assert [row.number for row in reader.trials(study_id)] == list(range(2_000))
        assert reader.trial(study_id, 1_999).reason == "last"


def test_the_quota_comes_from_the_environment_too(path, monkeypatch, study_row, trial_row):
    monkeypatch.setenv("VELODROME_STORE_MAX_BYTES", "100000")
    with Writer(path) as writer:
        study_id = writer.create_study(study_row())
        for number in range(1_000):
            writer.trial(trial_row(study_id, number, reason="x" * 100))
        with pytest.raises(StoreFullError):
            writer.commit(durable=True)
    monkeypatch.setenv("VELODROME_STORE_MAX_BYTES", "1GB")
    with pytest.raises(UsageError, match="1GB"):
        Writer(path)


def test_an_event_number_used_twice_is_an_error_and_nothing_of_that_commit_is_stored(
    writer, reader, study_id, event_row, trial_row
):
    writer.event(event_row(study_id, 1))
    writer.commit(durable=True)
    writer.event(event_row(study_id, 1, "failed"))
    writer.trial(trial_row(study_id, 0))
    with pytest.raises(StoreError, match="two processes"):
        writer.commit(durable=True)
    assert [e.kind for e in reader.events(study_id)] == ["returned"]
    assert reader.trials(study_id) == []


def test_commits_cut_short_by_a_signal_are_whole_or_not_there(path, study_row, event_row):
    """Each time the alarm raises at another moment of the commit; going on must neither lose nor double a row."""

    class Alarm(BaseException):
        pass

    def ring(_signum, _frame):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    cut = 0
    try:
        with Writer(path) as writer:
            study_id = writer.create_study(study_row())
            for seq in range(1, 201):
                writer.event(event_row(study_id, seq))
                writer.decision(DecisionRow(study_id, seq, None, 0.0, "manager", "a", "b"))
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.000_02 + 0.000_003 * seq)
                    writer.commit(durable=False)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Alarm:
                    cut += 1
            writer.commit(durable=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with Reader(path) as reader:
        assert [e.seq for e in reader.events(study_id)] == list(range(1, 201))
        assert [d.seq for d in reader.decisions(study_id)] == list(range(1, 201))
    assert cut > 0


# --- studies


@pytest.mark.parametrize("first", range(1, 12))
def test_a_commit_whose_undoing_fails_too_is_undone_by_the_next(writer, reader, study_id, trial_row, first):
    for steps in (first, 3, 5, 6):
        writer.trial(trial_row(study_id, steps))
        writer._conn.set_progress_handler(lambda: 1, steps)  # SQLite gives up after so many of its own steps
        try:
            writer.commit(durable=False)
        except StoreError:
            assert writer.pending
        finally:
            writer._conn.set_progress_handler(None, 0)
    writer.commit(durable=True)
    assert [row.number for row in reader.trials(study_id)] == sorted({first, 3, 5, 6})


def test_a_study_is_stored_at_once_and_found_by_any_case(writer, reader, study_row):
    study_id = writer.create_study(study_row("Digits"))
    assert reader.study("digits") == study_row("Digits", id=study_id)
    with pytest.raises(StudyExistsError, match="velo resume DIGITS"):
        writer.create_study(study_row("DIGITS"))
    assert writer.create_study(study_row("other")) != study_id
    assert [s.name for s in reader.studies()] == ["Digits", "other"]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0b", "x" * 201])
def test_a_name_that_cannot_be_one_is_refused(writer, study_row, name):
    with pytest.raises(UsageError, match="name does not do"):
        writer.create_study(study_row(name))


def test_a_claim_makes_the_process_the_owner_and_release_undoes_it(writer, reader, study_id):
    owner = Owner.current()
    row = writer.claim_study("digits", owner)
    assert row == reader.study("digits")
    assert (row.state, row.owner_host, row.owner_pid, row.owner_started_at) == (
        "running", owner.host, owner.pid, owner.started_at
    )
    assert writer.claim_study("digits", owner) == row, "again by the same process"
    writer.release(study_id, state="finished", note="done")
    row = reader.study("digits")
    assert (row.state, row.note, row.owner_host, row.owner_pid) == ("finished", "done", "", 0)


def test_a_study_of_a_living_process_is_busy_and_of_a_dead_one_is_free(writer, study_row):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = Owner.current()
    other = Owner.of(child.pid)
    try:
        writer.create_study(study_row())
        writer.claim_study("digits", other)
        with pytest.raises(StudyBusyError, match=f"process {child.pid}.*\n.*\n.*velo stop digits"):
            writer.claim_study("digits", here)
    finally:
        child.communicate(b"\n")
    assert writer.claim_study("digits", here).owner_pid == os.getpid()


def test_a_study_of_another_host_is_busy_unless_forced(writer, study_id):
    writer.claim_study("digits", Owner("elsewhere", 1, 1.0))
    with pytest.raises(StudyBusyError, match="elsewhere"):
        writer.claim_study("digits", Owner.current())
    assert writer.claim_study("digits", Owner.current(), force=True).owner_pid == os.getpid()


def test_claiming_a_study_that_is_not_there_names_the_nearest(writer, study_id):
    with pytest.raises(NotFoundError, match="Did you mean 'digits'"):
        writer.claim_study("digit", Owner.current())


def test_update_study_waits_for_the_commit_and_knows_the_columns(writer, reader, study_id):
    writer.update_study(study_id, trials=50)
    assert writer.pending == 1
    assert reader.study("digits").trials == 10
    writer.commit(durable=True)
    assert reader.study("digits").trials == 50
    with pytest.raises(KeyError, match="nmae"):
        writer.update_study(study_id, nmae="x")


# --- files


def test_closing_leaves_one_database_file_and_the_lock(path, study_row):
    writer = Writer(path)
    writer.create_study(study_row())
    writer.close()
    writer.close()
    assert sorted(p.name for p in path.parent.iterdir()) == ["results.db", "results.db.lock"]


def test_a_missing_folder_is_made(tmp_path: Path):
    Writer(tmp_path / "a" / "b" / "r.db").close()
    assert (tmp_path / "a" / "b" / "r.db").exists()


def test_a_link_to_a_store_shares_its_lock_and_log(path, tmp_path, writer, study_id):
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    with Writer(link) as other, Reader(link) as reader:
        assert other.claim_study("digits", Owner.current()).id == study_id
        assert [s.name for s in reader.studies()] == ["digits"]
    assert [p.name for p in link.parent.iterdir()] == ["link.db"]


def test_odd_paths_work(tmp_path, study_row):
    odd = tmp_path / "a ?#%20é" / "r&=1.db"
    with Writer(odd) as writer:
        writer.create_study(study_row())
    with Reader(odd) as reader:
        assert len(reader.studies()) == 1


def test_the_log_is_copied_when_long_and_starts_over(path, writer, study_id, trial_row):
    log = path.with_name(path.name + "-wal")
    most = 0
    for batch in range(8):
        for number in range(batch * 1_000, batch * 1_000 + 1_000):
            writer.trial(trial_row(study_id, number, reason="x" * 4_000))
        writer.commit(durable=False)
        most = max(most, log.stat().st_size)
    assert path.stat().st_size > 20_000_000, "most of it has been copied"
    assert most < 30_000_000


def test_the_store_is_a_plain_database_for_anyone(path, writer, study_id, trial_row):
    writer.trial(trial_row(study_id, 0))
    writer.commit(durable=True)
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("select study, number, value from leaderboard").fetchall() == [("digits", 0, 0.5)]
