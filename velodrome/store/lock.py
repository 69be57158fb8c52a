"""The file lock beside a store: one writer at a time, and never a checkpoint beside a write.

SQLite's own locks would let writers wait by polling with growing pauses, and SQLite before 3.51.3 has a rare race that
damages a database when several connections write and checkpoint in WAL mode at once. Every write transaction, every
checkpoint, every opening and every closing of a writing connection happens while this lock is held.

The kernel drops the lock when its process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from velodrome.errors import StoreError
from velodrome.store.faults import os_error

_PAUSE_S = 0.0003


class FileLock:
    """``flock`` on a file of its own, with a limit on the waiting. Use it as a context manager.

    Args:
        path: The lock's file; made where it is missing, and never removed (removing it would let two in).
        timeout_s: How long to wait for whoever holds it.

    Raises:
        StoreError: If the file can't be made.
    """

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self._path, self._timeout_s = path, timeout_s
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise os_error(error, path, "making its lock file") from error

    def __enter__(self) -> None:
        """Waits for the lock.

        Raises:
            StoreError: If it is not to be had within the time limit.
        """
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Gives the file back. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _wait(self) -> None:
        """Asks again and again at short and equal pauses: longer ones for whoever waits longer would starve it."""
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
        raise StoreError(
            "Another process kept the store to itself for too long",
            given=f"{self._path}, waited {self._timeout_s:g} s",
            hint="look for a stopped (Ctrl-Z) or hanging velo process: `velo ls`, `ps`; nothing is lost, try again",
        )
