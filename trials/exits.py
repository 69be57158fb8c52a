"""From the exit status of a dead worker to what became of its trial: whose doing it was."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from velodrome.trials.failures import locate
from velodrome.types import Failure, FailureClass

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP}
_LIMITS = {signal.SIGXCPU, signal.SIGXFSZ}
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in ', re.MULTILINE)


def of_exit(status: int, dump: str, log_tail: str, out_of_memory: bool) -> Failure | str:
    """What a worker's death means for the trial that it ran.

    Args:
        status: The exit status, or minus the number of the signal that ended the process.
        dump: What ``faulthandler`` wrote while the process died.
        log_tail: The end of what the worker printed.
        out_of_memory: Whether the kernel's count of processes killed for memory rose while the trial ran.

    Returns:
        The failure, or a sentence saying how the worker was lost where the trial is none the worse.
    """
    file, line, code = locate(_frames(dump))
    text = _current_thread(dump)
    if status >= 0:
        message = f"ended its own process with exit status {status}"
        return Failure(FailureClass.USER, message, "", file, line, code, text)
    name = _name(-status)
    if -status in _CRASHES | _LIMITS:
        if "std::bad_alloc" in log_tail:
            return Failure(FailureClass.OOM, f"ran out of memory (std::bad_alloc, {name})", "", file, line, code, text)
        words = {"SIGSEGV": "a segmentation fault, ", "SIGABRT": "an abort, "}.get(name, "")
        return Failure(FailureClass.USER, f"crashed its process: {words}{name}", name, file, line, code, text)
    if -status == signal.SIGKILL and out_of_memory:
        message = "the kernel killed the worker because memory ran out"
        return Failure(FailureClass.OOM, message, "", file, line, code, text)
    return f"the worker was ended from outside by {name}"


def count_oom_kills() -> int:
    """How many processes the kernel has killed for memory, in this machine or container; 0 where it can't be read."""
    return max((_counter(Path(path)) for path in _COUNTERS), default=0)


_COUNTERS = ("/proc/vmstat", "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def _counter(path: Path) -> int:
    try:
        found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _frames(dump: str) -> list[tuple[str, int]]:
    """The crashed thread's frames, innermost first."""
    return [(m["file"], int(m["line"])) for m in _FRAME.finditer(_current_thread(dump))]


def _current_thread(dump: str) -> str:
    """The part of the last dump that is about the thread that crashed."""
    start = dump.rfind("Current thread ")
    return dump[start:].partition("\n\n")[0] if start >= 0 else ""


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
