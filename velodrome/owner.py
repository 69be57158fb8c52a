"""Who runs a study: host, process and when that process started, so that a reused process id fools nobody."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that it can be told from a later one with the same id."""

    host: str
    pid: int
    started_at: float

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        import psutil

        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @property
    def is_here(self) -> bool:
        """Whether the process is (or was) on this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs. One on another host can't be asked and counts as alive."""
        import psutil

        if not self.is_here:
            return True
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.started_at) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        return bool(alive)
