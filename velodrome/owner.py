"""Who runs a study: host, process and when that process started, so that a reused process id fools nobody."""

from __future__ import annotations

import math
import os
import socket
from dataclasses import dataclass

from velodrome.processes import look_at


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
        seen = look_at(pid)
        return cls(socket.gethostname(), pid, math.nan if seen is None else seen.started_s)

    @property
    def is_here(self) -> bool:
        """Whether the process is (or was) on this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs. One on another host can't be asked and counts as alive."""
        if not self.is_here:
            return True
        seen = look_at(self.pid)
        return seen is not None and not seen.has_ended and abs(seen.started_s - self.started_at) < _SAME_S


_SAME_S = 0.05
