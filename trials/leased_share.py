"""A study's leases as its manager and executor see them: which workers there may be, and which are to go.

A slot that others need is left out of the allowance. It goes back to the ledger once no process uses it any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from velodrome.resources import share as leases
from velodrome.resources.slots import Slot
from velodrome.trials.share import LOOK_EVERY_S, Allowance

_SOON_S = 0.05
"""How often to look for a slot that the study waits for."""
_NO_HURRY_S = 1e9
"""Until when a worker may finish its trial that is given up only because the study has fewer trials left."""


class LeasedShare:
    """The manager's ``Share``, over leases.

    Args:
        source: Where slots come from and go back to.
    """

    def __init__(self, source: leases.Share) -> None:
        self._source = source
        self._leaving: dict[int, None] = {}
        """The indexes of the slots that are to go back once their workers are gone."""
        self._last: Allowance | None = None
        self._gpu_peak_bytes = 0

    def adjust(self, held: Sequence[Slot], wanted: int, gpu_peak_bytes: int = 0) -> Allowance:
        """Gives back what no process uses any more, and says what the study may hold."""
        packing = ""
        if gpu_peak_bytes > self._gpu_peak_bytes:
            self._gpu_peak_bytes = gpu_peak_bytes
            packing = self._source.repack(gpu_peak_bytes)
        in_use = [slot.index for slot in held]
        for index in [index for index in self._leaving if index not in in_use]:
            self._source.release(index)
            del self._leaving[index]
        grant = self._source.update(wanted)
        back = {order.slot: order for order in grant.give_back}
        stays = [slot for slot in grant.slots if slot.index not in back]
        reason, leave_s = packing or grant.waiting or "all that the study can use", _NO_HURRY_S
        if back:
            first = min(back.values(), key=lambda order: order.leave_s)
            reason, leave_s = packing or first.reason, min(first.leave_s, _NO_HURRY_S)
        elif len(stays) > wanted:
            stays, reason = stays[:wanted], "the study has fewer trials left"
        kept = [slot.index for slot in stays]
        self._leaving = {slot.index: None for slot in grant.slots if slot.index not in kept}
        allowance = Allowance(tuple(stays), reason, leave_s)
        last = self._last or allowance
        if replace(allowance, reason=last.reason) == last:
            allowance = last  # a reason alone is no change
        look_in_s = _SOON_S if grant.waiting else LOOK_EVERY_S
        self._last = allowance if allowance.look_in_s == look_in_s else replace(allowance, look_in_s=look_in_s)
        return self._last
