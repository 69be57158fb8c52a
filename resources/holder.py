"""Who holds a lease: a process, named so that neither a reused id nor a restart of the machine fools anybody."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


class Life(Enum):
    """What has become of a process."""

    RUNNING = "running"
    STOPPED = "stopped"
    """By Ctrl-Z or SIGSTOP: it holds what it holds, and can take or give back nothing."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process of this machine.

    Attributes:
        pid: Its id, in its own namespace of ids.
        started: When it started, in the kernel's ticks since the machine did.
        space: Which start of the machine, and which namespace of process ids (a container has its own).
    """

    pid: int
    started: int
    space: str

    @classmethod
    def current(cls) -> Holder:
        """This process."""
        pid = os.getpid()
        found = _started_and_state(pid)
        return cls(pid, found[0] if found else 0, _space())

    def life(self) -> Life:
        """What has become of it. One in another container of this machine can't be asked and counts as running."""
        boot, _, namespace = self.space.partition(" ")
        our_boot, _, our_namespace = _space().partition(" ")
        if boot != our_boot:
            return Life.GONE
        if namespace != our_namespace:
            return Life.RUNNING
        found = _started_and_state(self.pid)
        if found is None:
            return Life.RUNNING if _is_hidden(self.pid) else Life.GONE
        started, state = found
        if started != self.started or state in "ZX":
            return Life.GONE
        return Life.STOPPED if state == "T" else Life.RUNNING


def _started_and_state(pid: int) -> tuple[int, str] | None:
    """Start time and state letter of a process, or None where there is none to be seen."""
    if not (_PROC / "self/stat").exists():
        return _from_psutil(pid)
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19]), fields[0]


def _from_psutil(pid: int) -> tuple[int, str] | None:
    """The same where there is no /proc; the start time in hundredths of a second."""
    import psutil

    try:
        process = psutil.Process(pid)
        states = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_DEAD: "X", psutil.STATUS_STOPPED: "T"}
        return round(process.create_time() * 100), states.get(process.status(), "S")
    except psutil.Error:
        return None


def _is_hidden(pid: int) -> bool:
    """Whether the process is there and another user's, on a system that hides these (``hidepid``)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


@cache
def _space() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return "?"
    return f"{boot} {namespace}"
