"""How a trial reaches its study, and how it is taken off its worker."""

from __future__ import annotations

from typing import Any, Protocol

from velodrome.trials.checkpoints import Written
from velodrome.trials.preemption import Preemption
from velodrome.types import Metrics, ParamValue


class Leave(BaseException):
    """Raised out of ``report`` or ``checkpoint`` to take a paused trial off its worker; no concern of an objective's.

    It is no ``Exception``, so that ``except Exception`` in an objective does not swallow it; ``finally`` runs.
    """


class Link(Protocol):
    """How a trial reaches its study: over a pipe from a worker, or directly. None of it speaks in a forked child."""

    def report(self, number: int, step: int, metrics: Metrics) -> None:
        """Passes a report on."""
        ...

    def set_attr(self, number: int, name: str, value: Any) -> None:
        """Passes a user attribute on."""
        ...

    def checkpointed(self, number: int, step: int, written: Written) -> None:
        """Says that there is a checkpoint."""
        ...

    def restored(self, number: int, step: int | None, skipped: list[str]) -> None:
        """Says which checkpoint a trial that had some goes on from: None for none of them."""
        ...

    def suggest(self, number: int, name: str, domain: dict[str, Any]) -> ParamValue:
        """Asks for a parameter and waits for it."""
        ...

    def ask_stop(self, number: int) -> bool:
        """Asks for the verdict on all that was reported, and waits for it."""
        ...

    def ask_pause(self, number: int) -> bool:
        """Asks whether the trial is to leave its worker, now that its last report and newest checkpoint are level."""
        ...

    def ask_save(self, number: int, *, at_end: bool) -> bool:
        """Asks whether a checkpoint of what was last reported is of use, and waits for the answer."""
        ...

    def stop_reason(self, number: int) -> str | None:
        """Why the trial was told to stop, or None; local and cheap."""
        ...

    def preemption(self, number: int) -> Preemption | None:
        """Whether the trial is to give its place to another; local and cheap."""
        ...

    def note(self, number: int, by: str, action: str, reason: str) -> None:
        """Passes on what was decided inside the trial."""
        ...
