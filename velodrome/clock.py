"""Time as an argument: the system's clock, and one that tests and simulations move by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings: ``now`` goes into records, ``monotonic`` measures durations."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...


class SystemClock:
    """The machine's own clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """The fake time in seconds."""
        return self._now_s

    def monotonic(self) -> float:
        """The same as ``now``."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Moves the clock forward."""
        self._now_s += seconds
