"""Opening a store: the one way in for writers, and the one for readers."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from velodrome.errors import NotFoundError, StoreError, UsageError
from velodrome.store import schema
from velodrome.store.faults import os_error, store_error
from velodrome.store.filesystem import check_local
from velodrome.store.lock import FileLock

_BUSY_TIMEOUT_S = 10.0
"""How long to wait for a program other than velodrome; velodrome's own writers wait at the file lock."""
_CACHE_KIB = 8_192
_WRITER_PRAGMAS = (
    "wal_autocheckpoint = 0",  # checkpoints are made under the file lock, by the writer
    "journal_size_limit = 0",  # the log's file is cut when the log starts over, so its size says how full it is
    f"cache_size = -{_CACHE_KIB}",
    "foreign_keys = OFF",
)


def check_place(path: Path) -> None:
    """Makes sure that a store can be at a path: a file on a local disk. Makes its folder where that is missing.

    Raises:
        StoreError: If it can't.
    """
    check_local(path)
    try:
        _check_no_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_error(error, path, "making its folder") from error


def open_writable(path: Path, lock: FileLock, max_bytes: int | None) -> sqlite3.Connection:
    """A connection that writes, to a store of this version: made or migrated where needed.

    The caller holds no lock; it is taken here, for opening can read back a log that a killed process left.

    Args:
        path: The store.
        lock: Its file lock.
        max_bytes: The most bytes that the database may grow to, or None. Rounded down to whole pages; a store that is
            larger already can't grow.

    Raises:
        StoreError: If the file can't be opened, is no store, is damaged, or was written by a newer version.
    """
    with lock:
        conn = None
        try:
            if path.exists() and path.stat().st_size:
                _check_untouched(path)
            conn = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            (mode,) = conn.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError("The store's disk does not support SQLite's write-ahead log", given=f"{path} ({mode})",
                                 hint="name a file on a local disk with --store")
            for pragma in _WRITER_PRAGMAS:
                conn.execute(f"PRAGMA {pragma}")
            conn.execute("PRAGMA synchronous = FULL")
            if schema.read_stamp(conn).version < schema.VERSION:
                schema.migrate(conn)
            if max_bytes is not None:
                (page_bytes,) = conn.execute("PRAGMA page_size").fetchone()
                conn.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_bytes)}")
        except BaseException as error:
            if conn is not None:
                conn.close()
            if isinstance(error, sqlite3.Error):
                raise store_error(error, path, "opening it") from error
            raise
    return conn


def open_readonly(path: Path) -> sqlite3.Connection:
    """A connection that can't write, to a store of this version.

    Raises:
        NotFoundError: If there is no store at that path.
        StoreError: If the file is no store, is damaged, or is of another version.
    """
    path = Path(os.path.realpath(path))
    try:
        _check_no_folder(path)
        missing = not path.exists() or path.stat().st_size == 0
    except OSError as error:
        raise os_error(error, path, "opening it to read") from error
    if missing:
        raise NotFoundError(
            "There is no store there, or nothing in it yet", given=str(path),
            hint="velo sweep FILE makes one; name another with --store PATH or VELODROME_STORE",
        )
    try:
        conn, stamp = _open_readonly(path)
    except sqlite3.Error as error:
        raise store_error(error, path, "opening it to read") from error
    if stamp.is_empty or stamp.version < schema.VERSION:
        conn.close()
        raise StoreError(
            "The store was made by an older version of velodrome, or its making was cut short",
            given=f"{path} (schema version {stamp.version})", allowed=f"schema version {schema.VERSION}",
            hint="any command that writes brings it up to date: velo resume STUDY, velo sweep FILE",
        )
    return conn


def limit_from_environment() -> int | None:
    """The quota in ``VELODROME_STORE_MAX_BYTES``, or None.

    Raises:
        UsageError: If it is not a number of bytes.
    """
    text = os.environ.get("VELODROME_STORE_MAX_BYTES", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError("VELODROME_STORE_MAX_BYTES is not understood", given=repr(text), allowed="a number of bytes")
    return int(text)


def _check_no_folder(path: Path) -> None:
    if path.is_dir():
        raise StoreError(
            "The store is to be a file, not a folder", given=str(path), hint=f"--store '{path / 'velodrome.db'}'"
        )


def _check_untouched(path: Path) -> None:
    """Refuses a file that is not ours to write, without so much as opening it for writing."""
    conn, _ = _open_readonly(path)
    conn.close()


def _open_readonly(path: Path) -> tuple[sqlite3.Connection, schema.Stamp]:
    """Opens and checks. Where SQLite can't make its files beside a store, one with an empty log is read as it is."""
    try:
        conn = _connect(path, "mode=ro")
    except sqlite3.OperationalError:
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise
        conn = _connect(path, "mode=ro&immutable=1")
    try:
        stamp = schema.read_stamp(conn)
        schema.check_stamp(stamp, path)
    except BaseException:
        conn.close()
        raise
    return conn, stamp


def _connect(path: Path, options: str) -> sqlite3.Connection:
    """Opens and reads the first page, where trouble shows.

    The file is never opened except by SQLite: closing any other handle to it would drop SQLite's locks.
    """
    conn = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None,
        check_same_thread=False,
    )
    try:
        conn.execute("PRAGMA query_only = ON")
        conn.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except BaseException:
        conn.close()
        raise
    return conn
