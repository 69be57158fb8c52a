"""The ledger's file: made, opened, checked; its schema; and what SQLite's errors mean for whoever meets them.

Every writing transaction, and the closing of a writing connection, happens under a file lock beside it, as for the
results store and for the same reasons (``docs/decisions/store.md``).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from velodrome.errors import LedgerError, StoreError
from velodrome.resources.ledger_place import OFF, VARIABLE, Place
from velodrome.store.lock import FileLock

APPLICATION_ID = 0x56454C4C
"""``VELL`` in ASCII."""
VERSION = 1
_BUSY_TIMEOUT_S = 10.0

_SCHEMA = """
CREATE TABLE tenants (
    name TEXT PRIMARY KEY,
    usage REAL NOT NULL,        -- decayed to usage_at, in seconds of the whole machine (dominant share)
    usage_at REAL NOT NULL      -- the share has not changed since
) WITHOUT ROWID;
CREATE TABLE sharers (          -- the studies that run; those that want more than they hold are the queue
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    study TEXT NOT NULL,
    priority TEXT NOT NULL,     -- guaranteed, normal, opportunistic
    pid INTEGER NOT NULL, started INTEGER NOT NULL, space TEXT NOT NULL,    -- the process that holds its leases
    demand TEXT NOT NULL,       -- JSON: what one slot needs
    view TEXT NOT NULL,         -- JSON: what of the machine the process may use
    wanted INTEGER NOT NULL,    -- slots
    since REAL NOT NULL,        -- when it came, or began to want more than it holds
    usage REAL NOT NULL, usage_at REAL NOT NULL,
    waiting TEXT NOT NULL       -- why it does not have all that it wants
);
CREATE TABLE leases (
    token INTEGER PRIMARY KEY AUTOINCREMENT,    -- higher than that of every lease before
    sharer INTEGER NOT NULL REFERENCES sharers,
    amounts TEXT NOT NULL,      -- JSON: what it takes
    since REAL NOT NULL,
    back_by REAL,               -- until when it is to be given back
    back_reason TEXT NOT NULL
);
CREATE TABLE peaks (            -- the most GPU memory that a kind of trial was seen to use
    kind TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    trials INTEGER NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
"""


def open_writable(place: Place) -> tuple[sqlite3.Connection, FileLock]:
    """A connection that writes, and the lock to hold meanwhile; the file is made where it is missing.

    Raises:
        LedgerError: If that is impossible, or the file is no ledger, is damaged, or of a newer version.
    """
    path = place.path
    lock: FileLock | None = None
    conn: sqlite3.Connection | None = None
    try:
        _make_folder(place)
        lock = _lock(place)
        with lock:
            _make_file(place)
            conn = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            _check(conn, path)
            (mode,) = conn.execute("PRAGMA journal_mode = WAL").fetchone()
            # After a power cut all leases are void, so no commit waits for the disk; WAL keeps the file whole.
            conn.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
            if conn.execute("PRAGMA user_version").fetchone() == (0,):
                conn.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
                    f"PRAGMA user_version = {VERSION}; COMMIT;"
                )
    except BaseException as error:
        if conn is not None:
            conn.close()
        if lock is not None:
            lock.close()
        raise _explained(error, path, "opening it") from error
    return conn, lock


def open_readonly(path: Path) -> sqlite3.Connection | None:
    """A connection that can't write and can't keep anybody from writing; None where there is no ledger yet.

    Raises:
        LedgerError: As for ``open_writable``.
    """
    conn: sqlite3.Connection | None = None
    try:
        if not path.exists() or path.stat().st_size == 0:
            return None
        uri = f"{path.absolute().as_uri()}?mode=ro"
        conn = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        _check(conn, path)
        if conn.execute("PRAGMA user_version").fetchone() == (0,):  # whoever made it did not get further
            conn.close()
            return None
    except BaseException as error:
        if conn is not None:
            conn.close()
        raise _explained(error, path, "reading it") from error
    return conn


def explained(error: sqlite3.Error | StoreError | OSError, path: Path, doing: str) -> LedgerError:
    """The error to raise in place of SQLite's, the system's or the lock's."""
    name = getattr(error, "sqlite_errorname", "")
    reason = error.given if isinstance(error, StoreError) else getattr(error, "strerror", None) or str(error)
    given = f"{path} ({reason})"
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return LedgerError(
            f"The ledger's file is damaged, or is no SQLite database; found out while {doing}", given=given,
            hint=f"when no study runs, delete it: it holds no results, and is made anew. Or name another: {VARIABLE}",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or isinstance(error, StoreError):
        return LedgerError(
            f"The ledger stayed locked while {doing}", given=given,
            hint="look for a stopped (Ctrl-Z) velo process, or an SQLite shell with an open transaction",
        )
    return LedgerError(
        f"The ledger can't be used; found out while {doing}", given=given,
        allowed="a file that you may write, in a folder where you may make files",
        hint=f"check permissions and free space; name another file with {VARIABLE}, or run unshared: {VARIABLE}={OFF}",
    )


def _explained(error: BaseException, path: Path, doing: str) -> BaseException:
    return explained(error, path, doing) if isinstance(error, sqlite3.Error | StoreError | OSError) else error


def _make_folder(place: Place) -> None:
    folder = place.path.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o770 if place.is_shared else 0o700)
    if not place.is_shared and folder.stat().st_uid != os.getuid():
        raise LedgerError(
            "The ledger's folder belongs to somebody else", given=str(folder),
            hint=f"name a file of your own with {VARIABLE}, or run unshared: {VARIABLE}={OFF}",
        )


def _lock(place: Place) -> FileLock:
    path = place.path.with_name(place.path.name + ".lock")
    lock = FileLock(path)
    with suppress(PermissionError):  # somebody else made it, and gave it its mode
        path.chmod(_mode(place))
    return lock


def _make_file(place: Place) -> None:
    """An empty file with the right mode; SQLite gives the files that it makes beside it the same."""
    try:
        fd = os.open(place.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _mode(place))
    except FileExistsError:
        return
    os.fchmod(fd, _mode(place))
    os.close(fd)


def _mode(place: Place) -> int:
    return 0o660 if place.is_shared else 0o600


def _check(conn: sqlite3.Connection, path: Path) -> None:
    """Refuses what is no ledger, or one of another version. An empty file passes."""
    (application_id,) = conn.execute("PRAGMA application_id").fetchone()
    (version,) = conn.execute("PRAGMA user_version").fetchone()
    (has_tables,) = conn.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()
    if application_id != APPLICATION_ID and (has_tables or application_id):
        raise LedgerError("That SQLite file is no ledger", given=str(path), hint=f"name another with {VARIABLE}")
    if version > VERSION:
        raise LedgerError(
            "The ledger was made by a newer version of velodrome", given=f"{path} (schema version {version})",
            allowed=f"schema version {VERSION}", hint="use that version, as all who share a machine must",
        )
