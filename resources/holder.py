"""Who holds a lease: a process, named so that neither a reused id nor a restart of the machine fools anybody."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

from velodrome.processes import look_at

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
        started: When it started, in hundredths of a second since the machine did.
        space: Which start of the machine, and which namespace of process ids (a container has its own).
    """

    pid: int
    started: int
    space: str

    @classmethod
    def current(cls) -> Holder:
        """This process."""
        pid = os.getpid()
        seen = look_at(pid)
        return cls(pid, 0 if seen is None else round(100 * seen.started_s), _space())

    def life(self) -> Life:
        """What has become of it. One in another container of this machine can't be asked and counts as running."""
        boot, _, namespace = self.space.partition(" ")
        our_boot, _, our_namespace = _space().partition(" ")
        if boot != our_boot:
            return Life.GONE
        if namespace != our_namespace:
            return Life.RUNNING
        seen = look_at(self.pid)
        if seen is None:
            return Life.RUNNING if _is_hidden(self.pid) else Life.GONE
        if round(100 * seen.started_s) != self.started or seen.has_ended:
            return Life.GONE
        return Life.STOPPED if seen.state == "T" else Life.RUNNING


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
