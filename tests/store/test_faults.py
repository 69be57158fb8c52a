"""Bad days of a store: killed writers, readers that stay, writers that meet, files that are not what they should be."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from velodrome.errors import NotFoundError, StoreError
from velodrome.store import schema
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer

_WRITE_A_STUDY = """
import sys
from velodrome.records import EventRow, MetricRow, StudyRow, TrialRow, trial_id
from velodrome.store.writer import Writer

path, name, batches = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Writer(path) as writer:
    study = writer.create_study(
        StudyRow(0, name, "running", "minimize loss", 1, 1, "random", "none", "{}", "f.py:f", "{}", 1.0)
    )
    print("study", study, flush=True)
    seq = 0
    for batch in range(batches):
        for number in range(batch * 5, batch * 5 + 5):
            seq += 1
            key = trial_id(study, number)
            writer.event(EventRow(study, seq, 1.0, "suggested", number, "[{}]"))
            writer.params(key, {"a": number, "b": 0.5})
            seq += 1
            writer.metrics([MetricRow(key, m, 0, 1.0, seq, 1.0) for m in ("loss", "acc")])
            seq += 1
            writer.event(EventRow(study, seq, 1.0, "returned", number, "[{}]"))
            writer.trial(TrialRow(key, study, number, "completed", 1, 1.0, 1.0, "{}", 0, "w", "cpu", 1.0, 1.0, 2.0,
                                  None, None, "x" * 2_000))
        writer.commit(durable=batch % 2 == 0)
        print(seq, flush=True)
"""


def _start(path: Path, name: str, batches: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITE_A_STUDY, str(path), name, str(batches)], stdout=subprocess.PIPE, text=True
    )


def _check_whole(reader: Reader, study_id: int, seq: int) -> None:
    """A study that was written up to ``seq`` or, by commits that were not acknowledged in time, some batches beyond."""
    numbers = [row.number for row in reader.trials(study_id)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) % 5 == 0, "a commit is whole or not there"
    log = [(event.seq, event.kind, event.number) for event in reader.events(study_id, metrics=("loss",))]
    kinds = ("suggested", "reported", "returned")
    assert log == [(3 * n + i + 1, kind, n) for n in numbers for i, kind in enumerate(kinds)]
    assert reader.last_seq(study_id) == len(log) >= seq
    params = reader.all_params(study_id)
    assert [params[row.id] for row in reader.trials(study_id)] == [{"a": n, "b": 0.5} for n in numbers]
    ((num_metrics,),) = reader.query("select count(*) from reports r join studies s on s.name = r.study where s.id = ?",
                                     (study_id,))[1]
    assert num_metrics == 2 * len(numbers)


def test_a_writer_killed_at_any_moment_loses_nothing_that_was_committed(path):
    """Each round kills a writer after another number of commits; the log is long enough to be copied in some rounds."""
    acknowledged: dict[int, int] = {}
    for round_number in range(6):
        process = _start(path, f"s{round_number}", 100_000)
        assert process.stdout is not None
        study_id = int(process.stdout.readline().split()[1])
        for _ in range(30 + 97 * round_number):
            seq = int(process.stdout.readline())
        process.kill()
        rest, _ = process.communicate()
        whole_lines = rest[: rest.rfind("\n") + 1].split()
        acknowledged[study_id] = int(whole_lines[-1]) if whole_lines else seq
        with Reader(path) as reader:
            assert reader.problems() == []
            for study_id, seq in acknowledged.items():
                _check_whole(reader, study_id, seq)
    assert len(acknowledged) == 6


def test_processes_that_write_at_once_lose_nothing(path):
    processes = [_start(path, name, 150) for name in ("a", "b", "c")]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    with Reader(path) as reader:
        assert sorted(study.name for study in reader.studies()) == ["a", "b", "c"]
        for output in outputs:
            _check_whole(reader, int(output[0].split()[1]), int(output[-1]))
            assert len(output) == 151
        assert reader.problems() == []


def test_a_reader_that_stays_neither_stops_the_writer_nor_sees_what_is_new(path, writer, reader, study_id, trial_row):
    writer.trial(trial_row(study_id, 0))
    writer.commit(durable=True)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as holder:
        holder.execute("BEGIN")
        assert holder.execute("SELECT count(*) FROM trials").fetchone() == (1,)
        for batch in range(40):
            for number in range(batch * 100, batch * 100 + 100):
                writer.trial(trial_row(study_id, number, reason="x" * 9_000))
            writer.commit(durable=batch % 8 == 0)
        assert holder.execute("SELECT count(*) FROM trials").fetchone() == (1,)
        assert len(reader.trials(study_id)) == 4_000
        log_bytes = path.with_name(path.name + "-wal").stat().st_size
        assert log_bytes > 36_000_000, "the log could not start over"
        writer.close()
        assert holder.execute("SELECT count(*) FROM trials").fetchone() == (1,)
        holder.execute("COMMIT")
        assert holder.execute("SELECT count(*) FROM trials").fetchone() == (4_000,)
    with Writer(path):
        pass
    with Reader(path) as again:
        assert len(again.trials(study_id)) == 4_000


def test_while_a_reader_stays_the_log_is_not_gone_through_at_every_commit(path, writer, study_id, trial_row):
    statements: list[str] = []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT count(*) FROM trials").fetchone()
        writer._conn.set_trace_callback(statements.append)
        for number in range(60):
            writer.trial(trial_row(study_id, number, reason="x" * 1_000_000))
            writer.commit(durable=False)
    tries = [s for s in statements if "wal_checkpoint" in s]
    assert 2 <= len(tries) <= 4, "60 MB in steps of 16 MB"


def test_another_program_that_holds_the_store_is_named_as_the_cause(path, writer, study_id, trial_row):
    writer.trial(trial_row(study_id, 0))
    writer._conn.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another program"):
            writer.commit(durable=True)
        other.execute("ROLLBACK")
        writer.commit(durable=True)
    assert writer.pending == 0


def test_a_writer_that_keeps_the_lock_is_waited_for_only_so_long(path, writer, study_id):
    writer._lock.__enter__()
    try:
        with pytest.raises(StoreError, match="kept the store to itself"):
            Writer(path, lock_timeout_s=0.01)
    finally:
        writer._lock.__exit__(None, None, None)
    Writer(path, lock_timeout_s=0.01).close()


def test_a_store_that_is_removed_in_use_is_noticed(path, writer, study_id, trial_row):
    for file in path.parent.glob("results.db*"):
        file.unlink()
    writer.trial(trial_row(study_id, 0))
    with pytest.raises(StoreError, match="moved or removed"):
        writer.commit(durable=True)


def test_a_forked_child_that_ends_leaves_the_store_alone(path, study_row, trial_row):
    with Writer(path) as writer:
        study_id = writer.create_study(study_row())
        child = os.fork()
        if child == 0:
            try:
                writer.close()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert path.with_name(path.name + "-wal").exists()
        writer.trial(trial_row(study_id, 0))
        writer.commit(durable=True)
    with Reader(path) as reader:
        assert len(reader.trials(study_id)) == 1


# --- files that are not what they should be


@pytest.fixture
def closed_store(path, study_row, trial_row) -> Path:
    with Writer(path) as writer:
        study_id = writer.create_study(study_row())
        for number in range(500):
            writer.trial(trial_row(study_id, number, reason="x" * 500))
        writer.commit(durable=True)
    return path


def _both_refuse(path: Path, match: str) -> None:
    before = path.read_bytes()
    for opener in (Writer, Reader):
        with pytest.raises(StoreError, match=match):
            opener(path)
    assert path.read_bytes() == before, "it was not touched"


def test_a_damaged_header(closed_store):
    with closed_store.open("r+b") as file:
        file.write(b"not SQLite at all, but something else entirely")
    _both_refuse(closed_store, "damaged")


def test_a_file_that_is_cut_short(closed_store):
    os.truncate(closed_store, closed_store.stat().st_size // 8)
    _both_refuse(closed_store, "damaged")


def test_damage_inside_is_found_by_problems_and_named_when_read(closed_store):
    size = closed_store.stat().st_size
    with closed_store.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))
    with Reader(closed_store) as reader:
        assert reader.problems() != []
        with pytest.raises(StoreError, match="damaged"):
            reader.trials(1)
        with pytest.raises(StoreError, match="damaged"):
            reader.query("select * from trials")


def test_a_text_file(path):
    path.write_text("name,value\n" * 1_000)
    _both_refuse(path, "damaged, or is no SQLite")


def test_a_database_of_another_program(path):
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name TEXT)")
    _both_refuse(path, "not a velodrome store")


def test_a_newer_version(closed_store):
    with closing(sqlite3.connect(closed_store)) as conn:
        conn.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    _both_refuse(closed_store, "newer version")


def test_a_newer_version_whose_log_was_left_behind_is_not_touched(closed_store, tmp_path):
    copy = tmp_path / "copy" / "results.db"
    copy.parent.mkdir()
    with closing(sqlite3.connect(closed_store, isolation_level=None)) as conn:
        conn.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        for end in ("", "-wal"):
            shutil.copy(f"{closed_store}{end}", f"{copy}{end}")
    log = copy.with_name("results.db-wal")
    before = log.read_bytes()
    assert before
    _both_refuse(copy, "newer version")
    assert log.read_bytes() == before


def test_a_store_whose_making_was_cut_short_is_made_by_the_next_writer(path):
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(StoreError, match="cut short"):
        Reader(path)
    Writer(path).close()
    Reader(path).close()


def test_an_empty_file_is_a_store_to_be(path):
    path.touch()
    with pytest.raises(NotFoundError, match="velo sweep"):
        Reader(path)
    Writer(path).close()
    Reader(path).close()


def test_no_file(path):
    with pytest.raises(NotFoundError, match="no store there"):
        Reader(path)
    assert not path.exists()


def test_a_folder(tmp_path):
    with pytest.raises(StoreError, match=r"folder"):
        Writer(tmp_path)
    with pytest.raises(StoreError, match="folder"):
        Reader(tmp_path)


def test_a_path_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="making its folder"):
        Writer(tmp_path / "file" / "r.db")


def test_a_folder_that_takes_no_files():
    """``/proc`` refuses new files to everyone, root too."""
    with pytest.raises(StoreError, match="can't be opened while making its lock file"):
        Writer("/proc/self/r.db")


def test_a_network_file_system_is_refused_unless_allowed(path, monkeypatch):
    mounts = f"1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {path.parent.parent} rw - nfs4 server:/home rw\n"
    monkeypatch.setattr("velodrome.store.filesystem._MOUNTS", path.parent / "mounts")
    (path.parent / "mounts").write_text(mounts)
    with pytest.raises(StoreError, match=r"network file system.*\n.*nfs4"):
        Writer(path)
    assert not path.exists()
    monkeypatch.setenv("VELODROME_ALLOW_NETWORK_FS", "1")
    Writer(path).close()


def test_a_store_is_read_where_no_file_can_be_made_beside_it(closed_store):
    """SQLite follows no link here, so it can't have its shared memory; root can't be refused in another way."""
    closed_store.with_name("results.db-shm").symlink_to("nowhere")
    with Reader(closed_store) as reader:
        assert len(reader.trials(1)) == 500
        assert len(list(reader.query("select * from trials")[1])) == 500
    closed_store.with_name("results.db-wal").write_bytes(b"not empty")
    with pytest.raises(StoreError, match="folder"):
        Reader(closed_store)
