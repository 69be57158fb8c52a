"""No early stopping."""

from __future__ import annotations

from velodrome.types import Report


class NoScheduler:
    """Lets every trial run to its end."""

    needs_reports = False

    def decide(self, report: Report) -> None:
        """Nothing to decide, ever."""

    def forget(self, number: int, after_step: int | None = None) -> None:
        """Nothing was kept."""
