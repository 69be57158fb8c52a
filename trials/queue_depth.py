"""How many trials a worker may hold: more than one where they are so short that it would wait for the controller."""

from __future__ import annotations

_QUEUED_S = 0.010
"""A worker is given about so many seconds' worth of short trials at once."""


class QueueDepth:
    """Learns from how long trials take.

    Args:
        most: The most that a worker may hold, however short they are.

    Attributes:
        value: How many a worker may hold now; 1 while nothing is known.
    """

    def __init__(self, most: int) -> None:
        self.value = 1
        self._most = most
        self._mean_s: float | None = None

    def took(self, duration_s: float) -> None:
        """A trial took so long; the mean gives one in five parts to the newest."""
        self._mean_s = duration_s if self._mean_s is None else 0.8 * self._mean_s + 0.2 * duration_s
        self.value = max(1, min(self._most, int(_QUEUED_S / max(self._mean_s, 1e-6))))

    def takes_long(self) -> None:
        """A trial has kept others waiting behind it."""
        self.took(10 * _QUEUED_S)
