"""What a study holds of the machine while others use it too: its worker slots, more or fewer as time goes on.

The calling loop, in whoever runs the study's workers::

    grant = share.update(wanted=8)              # a few times a second; what it costs is a look at a file
    while not done:
        for slot in new_in(grant.slots):        # a worker may be started on each slot that is new here,
            start_worker(slot)
        for back in grant.give_back:            # and is to be ended on each of these: best between two trials,
            when_idle_or_after(back.leave_s, end_worker, back.slot)     # and after so long in the middle of one
        for slot in gone_from(grant.slots):     # it was taken: its holder counted as dead, or the ledger is new
            end_worker(slot)
        for slot in ended_workers:              # once the worker's process group is gone
            share.release(slot.index)
        grant = share.update(wanted=num_running_or_waiting)
    share.close()

Leases belong to worker slots and not to trials, so trials cost no traffic at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from velodrome.resources.slots import Slot


@dataclass(frozen=True, slots=True)
class GiveBack:
    """A slot that others need more.

    Attributes:
        slot: Its index.
        reason: Who needs it and why, for a person to read.
        leave_s: How long a running trial may go on, counted from when it was asked back; a worker between two trials
            ends at once.
    """

    slot: int
    reason: str
    leave_s: float


@dataclass(frozen=True, slots=True)
class Grant:
    """What a study may use now.

    Attributes:
        slots: All that it holds, those to be given back included, in the order of their indexes.
        give_back: Which of them are to be given back.
        waiting: Why there are no more of them, for a person to read; ``""`` where it has all that it wants.
    """

    slots: tuple[Slot, ...]
    give_back: tuple[GiveBack, ...] = ()
    waiting: str = ""


class Share(Protocol):
    """A study's part of the machine."""

    def update(self, wanted: int) -> Grant:
        """Says how many slots the study can use now, those that it holds included, and returns what it may use.

        Wanting fewer than it holds takes nothing away: ``release`` does.
        """
        ...

    def release(self, slot: int) -> None:
        """Gives a slot back; its worker is gone. One that is not held any more is fine."""
        ...

    def rename(self, study: str) -> None:
        """The study has got its name; until then it goes by its objective's."""
        ...

    def repack(self, peak_bytes: int) -> str:
        """A trial of the study was seen to use so much GPU memory: as many share a GPU from now on as that allows.

        Slots that are as they were before change with the next ``update``: to others with the same index, or they are
        to be given back.

        Returns:
            What changes, a sentence; ``""`` where nothing does, as where the user has said how many share.
        """
        ...

    def note_peak(self, kind: str, peak_bytes: int) -> None:
        """Takes note of the most GPU memory that trials of a kind were seen to use (``packing``)."""
        ...

    def close(self) -> None:
        """Gives everything back. Can be called twice."""
        ...


class WholeShare:
    """Slots that nobody else asks for: sharing is off, or the study runs inside a trial that has its lease already."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = {slot.index: slot for slot in slots}

    def update(self, wanted: int) -> Grant:
        """The slots that have not been released; never any to give back."""
        return Grant(tuple(self._slots.values()))

    def release(self, slot: int) -> None:
        """Gives the slot up for good."""
        self._slots.pop(slot, None)

    def rename(self, study: str) -> None:
        """Nobody asks for its name."""

    def repack(self, peak_bytes: int) -> str:
        """Its slots stay as they are."""
        return ""

    def note_peak(self, kind: str, peak_bytes: int) -> None:
        """Nobody keeps it."""

    def close(self) -> None:
        """Gives all of them up."""
        self._slots.clear()
