"""What can be seen of a process of this machine: when it started, which tells it from a later one with the same id.

The start is counted from the machine's, where that can be read: a start by the clock seems to move when somebody sets
the clock, and a process that runs would seem to be another.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class Seen(NamedTuple):
    """A process that is there, or whose parent has not asked yet what became of it."""

    started_s: float
    """When it started: since the machine did, or since the epoch where there is no ``/proc``."""
    state: str
    """The kernel's letter: ``Z`` and ``X`` have ended, ``T`` was stopped."""

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.state in "ZX"


def look_at(pid: int) -> Seen | None:
    """The process with that id; None where there is none to be seen."""
    if not (_PROC / "self/stat").exists():
        return _by_psutil(pid)
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return Seen(int(fields[19]) / os.sysconf("SC_CLK_TCK"), fields[0])


def _by_psutil(pid: int) -> Seen | None:
    import psutil

    try:
        process = psutil.Process(pid)
        states = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_DEAD: "X", psutil.STATUS_STOPPED: "T"}
        return Seen(process.create_time(), states.get(process.status(), "S"))
    except psutil.Error:
        return None
