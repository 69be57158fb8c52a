"""What a study may hold of a machine that others use too, as its manager asks for it a few times a second.

::

    allowance = share.adjust(executor.held(), wanted, peak)    # what it has now, how many trials could run, and the
                                                               # most GPU memory that one of them was seen to use
    if allowance differs from the one before:
        executor.resize(allowance.slots, allowance.reason, allowance.leave_s, allowance.grace_s)

A study that shares with nobody has no ``Share``: it keeps the slots that its executor was made with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from velodrome.resources.slots import Slot

LOOK_EVERY_S = 0.2
"""The longest wait of a manager for an event: shares, hung trials, signals and time limits are looked at as often."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a study may hold from now on.

    Attributes:
        slots: Its workers' slots. One that it has and that is not among them is given back: at once where it is idle,
            else after the trial that it runs.
        reason: Why these, a sentence; stored among the study's decisions when they change.
        leave_s: How long a trial on a slot that is given back may still run before it is preempted.
        grace_s: How long a trial that is preempted has for its next checkpoint.
        look_in_s: When to ask again, where nothing happens before: sooner while a slot may come any moment, for
            one that nobody uses yet counts as used.
    """

    slots: tuple[Slot, ...]
    reason: str = ""
    leave_s: float = 0.0
    grace_s: float = 30.0
    look_in_s: float = field(default=LOOK_EVERY_S, compare=False)


class Share(Protocol):
    """A study's share of the machine."""

    def adjust(self, held: Sequence[Slot], wanted: int, gpu_peak_bytes: int = 0) -> Allowance:
        """What the study may hold.

        Args:
            held: The slots that its processes still use, also those that it is about to give back: whatever is missing
                here can be used by others.
            wanted: How many trials could run now if there were slots enough.
            gpu_peak_bytes: The most memory that a trial was seen to use of a GPU; 0 where nothing is known.

        Returns:
            The allowance; an equal one changes nothing.
        """
        ...
