"""What a worker prints, in one file per worker process; a trial's log is a range of its bytes.

A silent trial costs one ``fstat`` and no file. One that prints without end keeps its beginning and its end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from io import TextIOWrapper

MAX_BYTES = 10 << 20
"""A trial that printed more is cut when it ends."""
MAX_BYTES_MEANWHILE = 256 << 20
"""A trial that has printed more is cut while it runs; what it prints at that very moment can be lost."""
KEPT_BYTES = 1 << 20
"""What is kept of it at either end."""


class WorkerLog:
    """Standard output and error of this process, from now on; before ``open``, they wait in a temporary file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start = self._dropped = 0
        with tempfile.TemporaryFile() as early:
            self._fd = os.dup(early.fileno())
        self._take_over()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def open(self, path: str) -> int:
        """Goes on in that file, which is made where there is none (nowhere if ``path`` is empty); returns its size."""
        self._flush()
        size = os.fstat(self._fd).st_size
        early, before = os.pread(self._fd, min(size, KEPT_BYTES), 0), self._fd
        self._fd = os.open(path or os.devnull, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.write(self._fd, early)
        self._take_over()
        os.close(before)
        return os.fstat(self._fd).st_size

    def begin(self) -> int:
        """A trial begins: the byte that its output starts at."""
        with self._lock:
            self._flush()
            self._start, self._dropped = os.fstat(self._fd).st_size, 0
            return self._start

    def end(self) -> int:
        """The trial ended: one past the last byte of its output, after cutting what is too long."""
        with self._lock:
            self._flush()
            return self._cut(MAX_BYTES)

    def size(self) -> int:
        """One past the last byte that was printed so far."""
        with self._lock:
            self._flush()
            return os.fstat(self._fd).st_size

    def grown(self) -> bool:
        """Whether the running trial has printed something; cuts what would fill the disk."""
        with self._lock:
            return self._cut(MAX_BYTES_MEANWHILE) > self._start

    def _cut(self, max_bytes: int) -> int:
        size = os.fstat(self._fd).st_size
        if size - self._start <= max_bytes:
            return size
        head_end, tail_start = self._start + KEPT_BYTES, size - KEPT_BYTES
        tail = os.pread(self._fd, KEPT_BYTES, tail_start)
        self._dropped += tail_start - head_end
        os.ftruncate(self._fd, head_end)
        line = f"\n[velodrome: {self._dropped:,} bytes of this trial's output were cut here]\n"
        os.write(self._fd, line.encode() + tail)
        return os.fstat(self._fd).st_size

    def _take_over(self) -> None:
        os.dup2(self._fd, 1)
        os.dup2(self._fd, 2)

    @staticmethod
    def _flush() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # closed, or an object of the user's own
                stream.flush()
