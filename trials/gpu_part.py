"""What the end of a trial tells of the part of a GPU that it had."""

from __future__ import annotations

from typing import TypeVar

from velodrome.resources.packing import measured_peak, needed_after
from velodrome.resources.request import format_bytes
from velodrome.resources.slots import Slot
from velodrome.trials.events import Failed, Preempted
from velodrome.types import FailureClass

_Ending = TypeVar("_Ending")


def settle_part(outcome: _Ending, slot: Slot) -> tuple[_Ending | Preempted, int]:
    """The trial's end as it counts, and the GPU memory that trials of its kind are known to need by now, in bytes.

    A trial that ran out of a part of the GPU that we chose for it has not shown that its configuration is impossible:
    it is preempted, and goes on with more.
    """
    peak_bytes = measured_peak()
    if not (slot.may_grow and isinstance(outcome, Failed) and outcome.failure["kind"] == FailureClass.OOM):
        return outcome, peak_bytes
    if not (needed_bytes := needed_after(slot.gpu_memory_part)):
        return outcome, peak_bytes
    reason = f"its part of the GPU, {format_bytes(needed_bytes // 2)}, was too small for it: it gets a larger one"
    return Preempted(outcome.number, reason), max(peak_bytes, needed_bytes)
