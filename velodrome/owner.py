"""Who runs a study: host, process and when that process started, so that a reused process id fools nobody.

The start is counted from the machine's, where that can be read: a start by the clock seems to move when somebody sets
the clock, and a study that runs would seem to be nobody's.
"""

from __future__ import annotations

import math
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that it can be told from a later one with the same id.

    Attributes:
        host: Its host's name.
        pid: Its id there.
        started_at: When it started: seconds since the machine did, or since the epoch where there is no ``/proc``.
    """

    host: str
    pid: int
    started_at: float

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Owner:
        """The process of this host that has that id now."""
        started_at, _ = _look_at(pid) or (math.nan, False)
        return cls(socket.gethostname(), pid, started_at)

    @property
    def is_here(self) -> bool:
        """Whether the process is (or was) on this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs. One on another host can't be asked and counts as alive."""
        if not self.is_here:
            return True
        started_at, runs = _look_at(self.pid) or (math.inf, False)
        return runs and abs(started_at - self.started_at) < _SAME_S


_SAME_S = 0.05


def _look_at(pid: int) -> tuple[float, bool] | None:
    """When a process started, and whether it runs (a zombie does not); None where there is none."""
    if not Path("/proc/self/stat").exists():
        return _by_psutil(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK"), fields[0] not in "ZX"


def _by_psutil(pid: int) -> tuple[float, bool] | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return process.create_time(), process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
