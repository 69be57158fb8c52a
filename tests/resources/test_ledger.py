"""The ledger's file: several real processes, dead ones, reused process ids, damaged files."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from velodrome.clock import FakeClock
from velodrome.errors import LedgerError, UsageError
from velodrome.resources.demand import Demand
from velodrome.resources.holder import Holder, Life
from velodrome.resources.inventory import Inventory
from velodrome.resources.ledger import Ledger
from velodrome.resources.ledger_file import open_readonly
from velodrome.resources.ledger_place import Place
from velodrome.resources.opening import Machine, known_peak
from velodrome.resources.state import Priority

VIEW = {"cores": 2000, "memory": 1 << 30}
NORMAL = Priority.NORMAL
HEAD = """
import os, random, signal, sys, time
from pathlib import Path
from velodrome.resources import ledger as module
from velodrome.resources.demand import Demand
from velodrome.resources.ledger import Ledger
from velodrome.resources.ledger_place import Place
from velodrome.resources.state import Priority
ledger = Ledger(Place(Path(sys.argv[1]), False, "test"))
VIEW = {"cores": 2000, "memory": 1 << 30}
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "state" / "ledger.db", False, "test")


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    opened = Ledger(place)
    yield opened
    opened.close()


def start(place: Place, code: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HEAD + code, str(place.path), *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


HOLD = """
_, held = ledger.join("other", "holding", Priority.NORMAL, Demand(), VIEW, 2)
print(len(held.leases), flush=True)
time.sleep(600)
"""


@pytest.fixture
def holding(place: Place) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds all of the machine."""
    process = start(place, HOLD)
    assert process.stdout is not None
    assert process.stdout.readline() == "2\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_two_studies_share(ledger: Ledger) -> None:
    first, held = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    assert [lease.amounts for lease in held.leases] == [{"cores": 1000}] * 2
    second, none = ledger.join("bob", "two", NORMAL, Demand(), VIEW, 1)
    assert none.leases == ()
    assert none.waiting == "first in the queue: too little of cores is free; ann/one holds 2"
    ledger.release(first, held.leases[0].token)
    got = ledger.update(second, 1)
    assert got is not None
    assert len(got.leases) == 1
    assert got.leases[0].token > held.leases[1].token
    ledger.leave(second)
    again = ledger.update(first, 2)
    assert again is not None
    assert len(again.leases) == 2


def test_a_lease_that_is_not_ones_own_is_not_released(ledger: Ledger) -> None:
    first, held = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    second, _ = ledger.join("bob", "two", NORMAL, Demand(), VIEW, 1)
    ledger.release(second, held.leases[0].token)
    ledger.release(first, 12345)
    still = ledger.update(first, 2)
    assert still is not None
    assert still.leases == held.leases


def test_what_is_asked_back_says_why_and_until_when(place: Place) -> None:
    clock = FakeClock(1_000_000.0)
    ledger = Ledger(place, clock)
    first, _ = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    clock.advance(100.0)
    ledger.join("bob", "two", NORMAL, Demand(), VIEW, 2)
    held = ledger.update(first, 2)
    assert held is not None
    back = [lease for lease in held.leases if lease.back_by is not None]
    assert [(lease.back_by, lease.back_reason) for lease in back] == [
        (clock.now() + 60.0, "bob/two has had less than its share")
    ]
    ledger.close()


def test_a_clock_that_jumps_does_no_harm(place: Place) -> None:
    clock = FakeClock(1_000_000.0)
    ledger = Ledger(place, clock)
    id_, _ = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    for jump in (-500_000.0, 10_000_000.0, -9_000_000.0):
        clock.advance(jump)
        held = ledger.update(id_, 2)
        assert held is not None
        assert len(held.leases) == 2
    ledger.close()


def test_usage_is_written_lazily_and_decays(place: Place) -> None:
    place.path.parent.mkdir(parents=True)
    place.settings.write_text("[sharing]\nhalf_life_s = 100\n")
    clock = FakeClock(1_000_000.0)
    ledger = Ledger(place, clock)
    id_, _ = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    clock.advance(100.0)
    ledger.update(id_, 2)  # nothing changes, so nothing is written
    with closing(sqlite3.connect(place.path)) as conn, conn:
        assert conn.execute("SELECT usage FROM tenants").fetchall() == [(0.0,)]
    clock.advance(1e6)
    ledger.leave(id_)
    with closing(sqlite3.connect(place.path)) as conn, conn:
        assert conn.execute("SELECT usage FROM tenants").fetchone()[0] == pytest.approx(100 / 0.6931471805599453)
    ledger.close()


# --- several processes

HAMMER = """
rng = random.Random(int(sys.argv[2]))
id_, held = ledger.join("t" + sys.argv[2], "s", Priority.NORMAL, Demand(rng.choice([500, 1000])), VIEW, 1)
for _ in range(60):
    held = ledger.update(id_, rng.randint(0, 4))
    for lease in held.leases:
        if lease.back_by is not None or rng.random() < 0.5:
            ledger.release(id_, lease.token)
ledger.leave(id_)
ledger.close()
"""
GUARD = """
CREATE TRIGGER guard AFTER INSERT ON leases
WHEN (SELECT sum(json_extract(amounts, '$.cores')) FROM leases) > 2000
BEGIN SELECT RAISE(ABORT, 'overcommitted'); END
"""


def test_processes_that_hammer_it_never_overcommit(place: Place, ledger: Ledger) -> None:
    with closing(sqlite3.connect(place.path)) as conn, conn:
        conn.execute(GUARD)  # every single insertion is looked at, by the database itself
    processes = [start(place, HAMMER, str(seed)) for seed in range(5)]
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0] * 5
    with closing(sqlite3.connect(place.path)) as conn, conn:
        assert conn.execute("SELECT count(*) FROM leases").fetchone() == (0,)
        assert conn.execute("SELECT seq FROM sqlite_sequence WHERE name = 'leases'").fetchone()[0] > 20


def test_a_lease_dies_with_its_holder(ledger: Ledger, holding: subprocess.Popen[str]) -> None:
    id_, held = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    assert held.leases == ()
    holding.kill()
    holding.wait()
    again = ledger.update(id_, 2)
    assert again is not None
    assert len(again.leases) == 2


def test_a_dead_holder_that_nobody_has_reaped_is_dead(ledger: Ledger, holding: subprocess.Popen[str]) -> None:
    id_, _ = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    holding.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{holding.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    again = ledger.update(id_, 2)
    assert again is not None
    assert len(again.leases) == 2


def test_a_reused_process_id_fools_nobody(place: Place, ledger: Ledger, holding: subprocess.Popen[str]) -> None:
    with closing(sqlite3.connect(place.path)) as conn, conn:
        conn.execute("UPDATE sharers SET started = started - 1")  # as if the holder had died, and its id come again
    _, held = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    assert len(held.leases) == 2


def test_a_restart_of_the_machine_voids_all(place: Place, ledger: Ledger, holding: subprocess.Popen[str]) -> None:
    with closing(sqlite3.connect(place.path)) as conn, conn:
        conn.execute("UPDATE sharers SET space = 'another-start ' || substr(space, instr(space, ' ') + 1)")
    _, held = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    assert len(held.leases) == 2


def test_a_stopped_process_gets_nothing_more(ledger: Ledger, place: Place, holding: subprocess.Popen[str]) -> None:
    holding.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 10
    with closing(sqlite3.connect(place.path)) as conn, conn:
        holder = Holder(*conn.execute("SELECT pid, started, space FROM sharers").fetchone())
    while holder.life() is not Life.STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with closing(sqlite3.connect(place.path)) as conn, conn:
        conn.execute("DELETE FROM leases")
    _, held = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    assert len(held.leases) == 2


CRASH = """
id_, held = ledger.join("other", "crashing", Priority.NORMAL, Demand(), VIEW, 1)
def die(state):
    os.kill(os.getpid(), signal.SIGKILL)
module.decide = die
ledger._want = lambda *_: ledger._conn.execute("INSERT INTO leases VALUES (NULL, ?, '{}', 0, NULL, '')", (id_,))
ledger.update(id_, 2)
"""


def test_a_writer_that_dies_within_a_transaction_leaves_nothing_of_it(place: Place, ledger: Ledger) -> None:
    process = start(place, CRASH)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(place.path)) as conn, conn:
        assert conn.execute("SELECT amounts FROM leases").fetchall() == [('{"cores": 1000}',)]
    _, held = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    assert len(held.leases) == 2


def test_looking_whether_anything_is_new(place: Place, ledger: Ledger) -> None:
    ledger.has_changed()
    id_, _ = ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    assert not ledger.has_changed()
    other = Ledger(place)
    other.rename(id_, "renamed")
    assert ledger.has_changed()
    assert not ledger.has_changed()
    other.close()


def test_the_highest_peak_is_kept(place: Place, ledger: Ledger) -> None:
    machine = Machine(Inventory(2, 1 << 30, 1 << 30), place, {})
    assert known_peak(machine, "kind") is None
    ledger.note_peak("kind", 500)
    ledger.note_peak("kind", 300)
    assert known_peak(machine, "kind") == 500
    assert known_peak(replace(machine, place=None), "kind") is None


# --- the file


def test_it_is_its_owners_alone(place: Place, ledger: Ledger) -> None:
    ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    assert stat.S_IMODE(place.path.parent.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.path.parent.iterdir()}
    assert modes == dict.fromkeys(("ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock"), 0o600)


def test_a_shared_one_can_be_written_by_its_group(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        ledger = Ledger(Place(tmp_path / "ledger.db", True, "test"))
        ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("ledger.db*")}
        ledger.close()
    finally:
        os.umask(before)
    assert modes == {0o660}


def test_a_damaged_file_is_said_to_be_damaged(place: Place) -> None:
    place.path.parent.mkdir(parents=True)
    place.path.write_bytes(b"no database at all, and more than a page's header would take" * 100)
    with pytest.raises(LedgerError, match=r"damaged, or is no SQLite database.*opening it(.|\n)*delete it"):
        Ledger(place)


def test_a_page_that_is_damaged_later_is_said_too(place: Place) -> None:
    ledger = Ledger(place)
    ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    ledger.close()
    with place.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (place.path.stat().st_size - 4096))
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(place).join("ann", "one", NORMAL, Demand(), VIEW, 2)


def test_another_programs_database_is_left_alone(place: Place) -> None:
    place.path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(place.path)) as conn, conn:
        conn.execute("CREATE TABLE mine (x)")
    with pytest.raises(LedgerError, match="is no ledger"):
        Ledger(place)


def test_a_newer_version_is_left_alone(place: Place) -> None:
    Ledger(place).close()
    with closing(sqlite3.connect(place.path)) as conn, conn:
        conn.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="newer version"):
        Ledger(place)


def test_a_folder_in_its_place(place: Place) -> None:
    place.path.mkdir(parents=True)
    with pytest.raises(LedgerError, match="can't be used"):
        Ledger(place)


def test_settings_that_go_bad_later_leave_the_last_good_ones(place: Place) -> None:
    place.path.parent.mkdir(parents=True)
    place.settings.write_text("[sharing]\nquantum_s = 7\n")
    ledger = Ledger(place)
    place.settings.write_text("[sharing]\nquantum_s = 'much'\n")
    ledger.join("ann", "one", NORMAL, Demand(), VIEW, 2)
    assert ledger.settings.rules.quantum_s == 7
    place.settings.write_text("[sharing]\nquantum_s = 8.5\n")
    ledger.join("ann", "two", NORMAL, Demand(), VIEW, 2)
    assert ledger.settings.rules.quantum_s == 8.5
    ledger.close()
    place.settings.write_text("[sharing]\nquantum_s = 'much'\n")
    with pytest.raises(UsageError, match="quantum_s"):
        Ledger(place)


def test_a_ledger_whose_making_was_cut_short_reads_as_none_and_is_made(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    assert path.stat().st_size > 0
    assert open_readonly(path) is None
    Ledger(Place(path, True, "test")).close()
    made = open_readonly(path)
    assert made is not None
    made.close()
