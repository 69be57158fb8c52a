"""The store's writer: rows are buffered as they come and written together by ``commit``.

The calling loop::

    with Writer(path) as writer:
        study = writer.claim_study(name, Owner.current())
        for event in events:
            writer.event(...), writer.trial(...), writer.metrics([...])
            if it_is_time:                      # every few tens of milliseconds
                writer.commit(durable=True)     # what is committed now is never lost

A study belongs to one process at a time (``claim_study``); several may write different studies into a store at once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from velodrome.errors import StoreError
from velodrome.owner import Owner
from velodrome.records import ArtifactRow, CheckpointRow, DecisionRow, EventRow, MetricRow, StudyRow, TrialRow
from velodrome.store import studies
from velodrome.store.buffers import Buffers
from velodrome.store.connect import check_place, limit_from_environment, open_writable
from velodrome.store.faults import store_error
from velodrome.store.lock import FileLock
from velodrome.store.schema import VERSION
from velodrome.store.views import replace_study_view
from velodrome.types import Params

_CHECKPOINT_BYTES = 4_000 * 4_120
"""The log's size at which it is copied into the database: 4,000 pages with their headers."""


class Writer:
    """Opens a store to write, making or migrating it where needed. Not for two threads at once.

    Args:
        path: The store. Its folder is made where that is missing.
        max_bytes: The most bytes the database may grow to; by default ``VELODROME_STORE_MAX_BYTES``, else no limit.
        lock_timeout_s: How long to wait for another process that is writing.

    Raises:
        StoreError: If the path can't be written or lies on a network file system, or if the file is damaged, is no
            store, or was written by a newer version.
    """

    def __init__(self, path: str | Path, *, max_bytes: int | None = None, lock_timeout_s: float = 30.0) -> None:
        self.path = Path(path)
        real = Path(os.path.realpath(path))
        check_place(real)
        max_bytes = limit_from_environment() if max_bytes is None else max_bytes
        self._lock = FileLock(real.with_name(real.name + ".lock"), lock_timeout_s)
        try:
            self._conn = open_writable(real, self._lock, max_bytes)
        except BaseException:
            self._lock.close()
            raise
        self._log = real.with_name(real.name + "-wal")
        self._log_bytes = 0
        self._checkpoint_at_bytes = _CHECKPOINT_BYTES
        self._is_full_sync: bool | None = None
        self._unsynced = False
        self._buffers = Buffers()
        self._close = weakref.finalize(self, _close, self._conn, self._lock, os.getpid())

    # --- rows, until the next commit

    def event(self, row: EventRow) -> None:
        """Adds an event to its study's log. A second one with its number is an error at the commit."""
        self._buffers.events.append(row)

    def trial(self, row: TrialRow) -> None:
        """Stores a trial as it stands now, in place of what was there."""
        self._buffers.trials[row.id] = row

    def params(self, trial_id: int, params: Params) -> None:
        """Stores parameters of a trial, besides those that it has."""
        self._buffers.add_params(trial_id, params)

    def metrics(self, rows: list[MetricRow]) -> None:
        """Adds the figures of a report. A figure for a trial, name and step that has one already replaces it."""
        self._buffers.metrics += rows

    def forget_metrics(self, trial_id: int, after_step: int | None = None) -> None:
        """Drops what a trial reported at steps after that one, or all, stored or not: it starts again from there."""
        self._buffers.forget_metrics(trial_id, after_step)

    def decision(self, row: DecisionRow) -> None:
        """Adds a decision."""
        self._buffers.decisions.append(row)

    def artifact(self, row: ArtifactRow) -> None:
        """Stores where something of a trial lies, in place of what was there for that kind, attempt and path."""
        self._buffers.artifacts.append(row)

    def checkpoint(self, row: CheckpointRow) -> None:
        """Stores where a trial's checkpoint lies, in place of one for the same step."""
        self._buffers.checkpoints.append(row)

    def discard_checkpoint(self, trial_id: int, path: str) -> None:
        """Drops a trial's checkpoint of that path, stored or not; its files are the caller's."""
        self._buffers.discard_checkpoint(trial_id, path)

    def attr(self, trial_id: int, name: str, json_value: str) -> None:
        """Stores a user attribute of a trial (JSON), in place of what was there."""
        self._buffers.attrs.append((trial_id, name, json_value))

    def update_study(self, study_id: int, **columns: Any) -> None:
        """Changes columns of a study's row.

        Raises:
            KeyError: If there is no such column, or it can't be changed.
        """
        self._buffers.update_study(study_id, columns)

    @property
    def pending(self) -> int:
        """How many rows wait for the next commit."""
        return len(self._buffers)

    def commit(self, *, durable: bool) -> None:
        """Writes everything that waits, in one transaction.

        Args:
            durable: Also wait until this and every earlier commit is on the disk, so that not even a power cut loses
                it. Otherwise a crash of the whole machine, and nothing less, can lose it and the commits after it.

        Raises:
            StoreFullError: If there is no room.
            StoreError: If it can't be written for another reason. In either case nothing of it is stored, everything is
                kept, and ``commit`` may be called again.
        """
        if not self._buffers and not (durable and self._unsynced):
            return
        try:
            self._write(durable=durable)
        except (UnicodeEncodeError, OverflowError):
            self._buffers.make_storable()
            self._write(durable=durable)

    # --- studies

    def create_study(self, row: StudyRow) -> int:
        """Stores a new study at once and for good; returns its id (the row's own is not looked at).

        Raises:
            UsageError: If its name can't be one.
            StudyExistsError: If there is one of that name.
            StoreError: If it can't be written.
        """
        studies.check_name(row.name)
        with self._transaction(f"storing study {row.name!r}", durable=True):
            return studies.insert(self._conn, row)

    def claim_study(self, name: str, owner: Owner, *, force: bool = False) -> StudyRow:
        """Makes a process the one that runs a study (state ``running``), at once; returns the study as it is then.

        Args:
            name: The study.
            owner: The process.
            force: Take it even from a process that seems to run: one on another host can't be asked.

        Raises:
            NotFoundError: If there is no such study.
            StudyBusyError: If another process runs it.
            StoreError: If it can't be written.
        """
        with self._transaction(f"claiming study {name!r}", durable=True):
            return studies.claim(self._conn, name, owner, force=force)

    def release(self, study_id: int, *, state: str = "stopped", note: str = "") -> None:
        """Gives a study up, in this state, and commits everything that waits.

        Raises:
            StoreError: As for ``commit``.
        """
        self.update_study(study_id, state=state, note=note, owner_host="", owner_pid=0, owner_started_at=0.0)
        self.commit(durable=True)

    def refresh_study_view(self, study_id: int, *, params: Iterable[str] = (), metrics: Iterable[str] = ()) -> None:
        """Brings a study's wide view up to date with the parameters and final metrics that are committed.

        Args:
            study_id: The study.
            params: Parameters to show though no trial has them yet.
            metrics: Final metrics to show though no trial has them yet.

        Raises:
            StoreError: If it can't be written.
        """
        with self._transaction("making the study's view", durable=False):
            replace_study_view(self._conn, study_id, params, metrics)

    # --- the end

    def close(self) -> None:
        """Closes the store. What waits and was not committed is dropped. A second call does nothing.

        The log is copied into the database and removed, unless a reader or another writer has the store open.
        """
        self._close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- transactions

    def _write(self, *, durable: bool) -> None:
        with self._transaction("writing", durable=durable, then=self._start_afresh):
            if self._buffers:
                self._buffers.write(self._conn)
            else:
                self._conn.execute(f"PRAGMA user_version = {VERSION}")  # any write: its sync covers those before it

    def _start_afresh(self) -> None:
        self._buffers = Buffers()

    @contextlib.contextmanager
    def _transaction(self, doing: str, *, durable: bool, then: Callable[[], None] | None = None) -> Iterator[None]:
        """One write transaction under the file lock, undone as a whole by any error.

        Args:
            doing: What it is for, to say in an error.
            durable: Whether to wait for the disk.
            then: Called once it is committed, even if a signal raises an exception at that moment; perhaps twice.
        """
        conn = self._conn
        with self._lock:
            committing = False
            try:
                if conn.in_transaction:  # left by a signal or an error in the midst of a roll-back
                    conn.execute("ROLLBACK")
                self._sync(full=durable)
                conn.execute("BEGIN IMMEDIATE")
                yield
                committing = True
                conn.execute("COMMIT")
                if then is not None:
                    then()
            except BaseException as error:
                if conn.in_transaction:
                    with contextlib.suppress(sqlite3.Error):  # the next transaction begins with it then
                        conn.execute("ROLLBACK")
                elif committing and then is not None and not isinstance(error, sqlite3.Error):
                    then()
                if isinstance(error, sqlite3.Error):
                    raise store_error(error, self.path, doing) from error
                raise
            self._unsynced = not durable
            self._checkpoint_if_due()

    def _sync(self, *, full: bool) -> None:
        """Sets whether a commit waits for the disk, where that changes."""
        if self._is_full_sync is not full:
            self._is_full_sync = None
            self._conn.execute("PRAGMA synchronous = " + ("FULL" if full else "NORMAL"))
            self._is_full_sync = full

    def _checkpoint_if_due(self) -> None:
        """Copies the log into the database when it is long, as far as no reader is in the way.

        While a reader is, the next try waits until the log has grown by as much again: a try costs time.
        """
        try:
            log_bytes = self._log.stat().st_size
        except FileNotFoundError:
            raise StoreError("The store was moved or removed while it was in use", given=str(self.path),
                             hint="what was written since is lost with it; start again with a new store") from None
        if log_bytes < self._log_bytes:  # the log was copied as a whole and has started over
            self._checkpoint_at_bytes = _CHECKPOINT_BYTES
        self._log_bytes = log_bytes
        if log_bytes >= self._checkpoint_at_bytes:
            self._checkpoint_at_bytes = log_bytes + _CHECKPOINT_BYTES
            with contextlib.suppress(sqlite3.Error):  # the log keeps what a full disk can't take
                self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _close(conn: sqlite3.Connection, lock: FileLock, pid: int) -> None:
    """Copies the log if no reader is in the way, and closes: under the lock, for closing can copy the log as well.

    A process that was forked off by the one with the writer must leave the store alone.
    """
    if os.getpid() != pid:
        return
    try:
        with lock:
            with contextlib.suppress(sqlite3.Error):
                conn.execute("PRAGMA busy_timeout = 0")
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            conn.close()
    finally:
        lock.close()
