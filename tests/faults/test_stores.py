"""Stores on bad days: a full disk, a slow reader, a newer version, a path that can't be written, a corrupt file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.campaign import check_whole, finished, rows, start, velo, wait_for, write_objective


def test_a_reader_that_holds_a_transaction_stops_nobody(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, pause=0.001)
    process = start(tmp_path, "sweep", str(objective), "--trials", "400", "--workers", "2", "--name", "s")
    wait_for(lambda: finished(tmp_path))
    reader = sqlite3.connect(tmp_path / "velodrome.db", isolation_level=None)
    reader.execute("begin")
    seen = reader.execute("select count(*) from trials").fetchone()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert reader.execute("select count(*) from trials").fetchone() == seen, "it still sees its own moment"
    reader.close()
    check_whole(tmp_path, 400)


def test_a_full_disk_stops_the_study_with_an_error_and_it_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = write_objective(tmp_path, pause=0.0)
    monkeypatch.setenv("VELODROME_STORE_MAX_BYTES", str(400 << 10))
    code, _, err = velo(
        tmp_path, "sweep", str(objective), "--trials", "2000", "--workers", "2", "--name", "s",
        before="from velodrome.trials import manager\nmanager._STORE_PATIENCE_S = 1.0",
    )
    assert code == 3
    assert "full" in err
    assert "Traceback" not in err
    acknowledged = finished(tmp_path)
    assert 0 < len(acknowledged) < 2000
    monkeypatch.delenv("VELODROME_STORE_MAX_BYTES")
    code, _, err = velo(tmp_path, "resume", "s", "--trials", str(len(acknowledged) + 50))
    assert code == 0, err
    after = finished(tmp_path)
    assert {n: after[n] for n in acknowledged} == acknowledged
    check_whole(tmp_path, len(acknowledged) + 50)


def test_a_store_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    objective = write_objective(tmp_path)
    assert velo(tmp_path, "sweep", str(objective), "--trials", "2", "--name", "s")[0] == 0
    with closing(sqlite3.connect(tmp_path / "velodrome.db")) as db, db:
        db.execute("pragma user_version = 999")
    before = (tmp_path / "velodrome.db").read_bytes()
    for args in (["sweep", str(objective)], ["ls"], ["resume", "s"], ["query", "select 1"]):
        code, _, err = velo(tmp_path, *args)
        assert code == 3, args
        assert "newer" in err
    assert (tmp_path / "velodrome.db").read_bytes() == before


def test_a_file_that_is_no_store_is_a_clear_error(tmp_path: Path) -> None:
    objective = write_objective(tmp_path)
    (tmp_path / "velodrome.db").write_bytes(b"these are my notes" * 1000)
    for args in (["sweep", str(objective)], ["ls"]):
        code, _, err = velo(tmp_path, *args)
        assert code == 3, args
        assert "velodrome.db" in err
        assert "Traceback" not in err
    assert (tmp_path / "velodrome.db").read_bytes() == b"these are my notes" * 1000


def test_a_corrupt_store_is_a_clear_error(tmp_path: Path) -> None:
    objective = write_objective(tmp_path)
    assert velo(tmp_path, "sweep", str(objective), "--trials", "20", "--name", "s")[0] == 0
    path = tmp_path / "velodrome.db"
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    for args in (["show", "s"], ["resume", "s", "--trials", "30"], ["query", "select * from leaderboard"]):
        code, _, err = velo(tmp_path, *args)
        assert code == 3, (args, err)
        assert "Traceback" not in err


@pytest.mark.parametrize("path", ["/proc/velodrome.db", "train.py/velodrome.db"])
def test_a_path_that_can_not_be_written_is_a_clear_error(tmp_path: Path, path: str) -> None:
    objective = write_objective(tmp_path)
    code, _, err = velo(tmp_path, "sweep", str(objective), "--trials", "2", "--store", path)
    assert code == 3, err
    assert Path(path).name in err
    assert "Traceback" not in err


def test_a_study_name_that_exists_is_a_clear_error(tmp_path: Path) -> None:
    objective = write_objective(tmp_path)
    assert velo(tmp_path, "sweep", str(objective), "--trials", "2", "--name", "s")[0] == 0
    code, _, err = velo(tmp_path, "sweep", str(objective), "--trials", "2", "--name", "s")
    assert code == 2
    assert "velo resume s" in err
    assert len(finished(tmp_path)) == 2


def test_a_space_that_changed_since_is_a_clear_error_that_names_the_parameter(tmp_path: Path) -> None:
    objective = write_objective(tmp_path)
    assert velo(tmp_path, "sweep", str(objective), "--trials", "2", "--name", "s")[0] == 0
    objective.write_text(objective.read_text().replace("k=velo.Int(1, 5)", "k=velo.Int(1, 9)"))
    code, _, err = velo(tmp_path, "resume", "s", "--trials", "5")
    assert code == 2
    assert "changed" in err
    assert "k" in err
    assert len(finished(tmp_path)) == 2
    assert rows(tmp_path, "select state from studies") == [("finished",)]
