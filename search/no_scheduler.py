"""No early stopping."""

from __future__ import annotations

from velodrome.search.scheduler import Peers
from velodrome.types import Report


class NoScheduler:
    """Lets every trial run to its end."""

    needs_reports = False
    pauses = False

    def decide(self, report: Report, peers: Peers) -> None:
        """Nothing to decide, ever."""

    def forget(self, number: int, after_step: int | None = None) -> None:
        """Nothing was kept."""
