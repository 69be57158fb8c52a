"""Ctrl-C and SIGTERM while a study runs: the first ends it in order, a second ends this process at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Takes note of signals, and raises KeyboardInterrupt inside an objective that runs in this thread, there alone.

    Attributes:
        signum: The signal that came; 0 for none.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._in_objective = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """While this lasts, signals are ours; a closed terminal (SIGHUP) is one, unless nohup has it ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        usual = signal.SIGINT, signal.SIGTERM
        ends = usual if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*usual, signal.SIGHUP)
        before = {signum: signal.signal(signum, self._on_signal) for signum in ends}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    @contextmanager
    def in_objective(self, *, here: bool) -> Iterator[None]:
        """The objective may run now; ``here`` says whether in this thread."""
        self._in_objective = here
        try:
            yield
        finally:
            self._in_objective = False

    def leave_objective(self) -> bool:
        """Our own code begins, called from an objective perhaps; what ``back`` takes."""
        inside, self._in_objective = self._in_objective, False
        return inside

    def back(self, inside: bool) -> None:
        """Our own code ends: Ctrl-C, which could have torn an event in two there, is raised here."""
        self._in_objective = inside
        if inside and self.signum:
            raise KeyboardInterrupt

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum:
            os._exit(128 + signum)
        self.signum = signum
        if self._in_objective:
            raise KeyboardInterrupt
