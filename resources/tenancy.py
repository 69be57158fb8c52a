"""A study's share of the machine as the ledger gives it: leases become slots, and slots go back.

A call that finds nothing new costs a look at the ledger's version, some microseconds. A transaction is made where
another process has written, where the study wants something else than before, and now and then while anybody waits.
"""

from __future__ import annotations

import math
import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from velodrome.clock import Clock, SystemClock
from velodrome.errors import LedgerError
from velodrome.resources import amounts as am
from velodrome.resources.allocator import plan, slot
from velodrome.resources.amounts import Amounts
from velodrome.resources.demand import Demand
from velodrome.resources.gpus import Gpu
from velodrome.resources.inventory import Inventory
from velodrome.resources.ledger import Held, Ledger
from velodrome.resources.nested import mark
from velodrome.resources.packing import is_free, packed, sharing
from velodrome.resources.request import ResourceRequest
from velodrome.resources.share import GiveBack, Grant
from velodrome.resources.slots import Slot
from velodrome.resources.state import Lease, Priority

_LOOK_AGAIN_S = 0.5
"""How often to decide anew while somebody waits, though nobody has written."""
TENANT = "VELODROME_TENANT"


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks for a share of the machine, and for what.

    Attributes:
        tenant: Whose study it is.
        study: Its name.
        priority: Its class.
        request: What each trial asks for, ``gpu=auto`` settled.
        inventory: What its process may use.
        workers: How many slots it can use at most.
        threads: How many threads each may have where nobody else is there.
        is_pinned: Whether it has these in any case.
        gpu_peak_bytes: The most GPU memory that such a trial was seen to use, 0 where none was seen, if it is ours to
            choose how many share a GPU; None where the user has.
    """

    tenant: str
    study: str
    priority: Priority
    request: ResourceRequest
    inventory: Inventory
    workers: int
    threads: int
    is_pinned: bool = False
    gpu_peak_bytes: int | None = None


class LedgerShare:
    """The share of one study, in a ledger that it closes at its end.

    Args:
        ledger: The ledger.
        applicant: Who asks, and for what.
        clock: What time it is.
        free_gpu_bytes: Asks how much memory of a GPU is free now; NVML where None.
    """

    def __init__(
        self, ledger: Ledger, applicant: Applicant, clock: Clock | None = None,
        free_gpu_bytes: Callable[[Gpu], int | None] | None = None,
    ) -> None:
        self._ledger, self._applicant = ledger, applicant
        self._clock = clock or SystemClock()
        self._free_gpu_bytes = free_gpu_bytes
        self._demand = Demand.of(applicant.request, applicant.inventory.cpus, applicant.workers)
        self._view = self._usable(am.of_inventory(applicant.inventory))
        self._wanted = applicant.workers
        self._slots: dict[int, Slot] = {}
        """By the token of the lease, in the order of their indexes."""
        self._unready: dict[int, str] = {}
        """Leases whose GPU has not been freed by whoever had it before, and what is known of that."""
        self._trouble = ""
        self._is_open, self._is_reshaped, self._pid = True, True, os.getpid()
        self._threads = self._demand.core_millis // am.WHOLE or 1
        self._id, held = self._join()
        if applicant.is_pinned or (len(held.leases) == applicant.workers and not ledger.has_others(self._id)):
            self._threads = applicant.threads
        self._take(held)

    def update(self, wanted: int) -> Grant:
        """What the study may use now; see ``share.Share``."""
        now = self._clock.monotonic()
        try:
            wanted = min(wanted, self._applicant.workers)
            if not self._is_reshaped:
                self._reshape()
            due = self._is_contended and now >= self._next_at
            if self._ledger.has_changed() or wanted != self._wanted or due or self._unready:
                self._wanted = wanted
                held = self._ledger.update(self._id, wanted)
                if held is None:  # counted as dead, or a new ledger: what was held is void
                    self._slots.clear()
                    self._id, held = self._join()
                self._take(held)
            self._trouble = ""
        except LedgerError as error:
            self._trouble = f"{error.what}: {error.given}"
        return self._grant()

    def repack(self, peak_bytes: int) -> str:
        """As many trials share a GPU from now on as the peak allows; see ``share.Share``."""
        who, gpus = self._applicant, self._applicant.inventory.gpus
        if who.gpu_peak_bytes is None or not gpus:
            return ""
        peak_bytes = max(peak_bytes, who.gpu_peak_bytes)
        part = packed(replace(who.request, gpu_millis=am.WHOLE), gpus, peak_bytes)
        if part == who.request:
            return ""
        planned = plan(who.inventory, part)
        workers = len(planned.slots)
        self._applicant = replace(who, request=part, workers=workers, gpu_peak_bytes=peak_bytes)
        self._demand = Demand.of(part, who.inventory.cpus, workers)
        if not who.is_pinned:
            self._threads = min(self._threads, max(slot.threads for slot in planned.slots))
        self._wanted = min(self._wanted, workers)
        self._is_reshaped = False
        return sharing(peak_bytes, part)

    def release(self, slot: int) -> None:
        """Gives a slot back."""
        token = next((token for token, held in self._slots.items() if held.index == slot), None)
        if token is not None:
            del self._slots[token]
            held = self._ledger.release(self._id, token)
            if held is not None:
                self._take(held)

    def rename(self, study: str) -> None:
        """The study has got its name."""
        self._applicant = replace(self._applicant, study=study)
        self._ledger.rename(self._id, study)

    def note_peak(self, kind: str, peak_bytes: int) -> None:
        """Takes note of the most GPU memory that trials of a kind were seen to use."""
        self._ledger.note_peak(kind, peak_bytes)

    def close(self) -> None:
        """Gives everything back, and closes the ledger."""
        if self._is_open and os.getpid() == self._pid:  # a child that an objective forked has no leases
            self._is_open = False
            try:
                self._ledger.leave(self._id)
            finally:
                self._ledger.close()

    # --- from leases to slots

    def _join(self) -> tuple[int, Held]:
        who = self._applicant
        return self._ledger.join(who.tenant, who.study, who.priority, self._demand, self._view, self._wanted)

    def _take(self, held: Held) -> None:
        """Makes slots of new leases, once their GPUs are free, and forgets those of leases that are gone."""
        self._leases = {lease.token: lease for lease in held.leases}
        self._waiting, self._is_contended = held.waiting, held.is_contended
        self._next_at = self._clock.monotonic() + _LOOK_AGAIN_S
        self._slots = {token: slot for token, slot in self._slots.items() if token in self._leases}
        self._unready = {}
        for lease in held.leases:
            if lease.token in self._slots:
                continue
            if busy := self._busy_gpu(lease):
                self._unready[lease.token] = busy
            else:
                self._slots[lease.token] = self._slot(lease)

    def _reshape(self) -> None:
        """Makes the leases what the study's trials need now; those that are too small for that are to be given back."""
        held = self._ledger.reshape(self._id, self._demand, self._wanted)
        self._is_reshaped = True
        if held is None:
            return  # counted as dead: the next look finds out
        self._take(held)
        for token, before in list(self._slots.items()):
            if not self._is_outgrown(self._leases[token]):
                self._slots[token] = self._slot(self._leases[token], before.index)

    def _slot(self, lease: Lease, index: int | None = None) -> Slot:
        """The lease's slot, with an index that is free where none is given."""
        used = [held.index for held in self._slots.values()]
        index = next(i for i in range(len(used) + 1) if i not in used) if index is None else index
        made = slot(
            index, self._threads, self._applicant.inventory, self._applicant.request, self._gpus(lease.amounts)
        )
        may_grow = self._applicant.gpu_peak_bytes is not None and made.gpu_memory_part < 1.0
        return replace(made, env=made.env | mark(lease), may_grow=may_grow)

    def _is_outgrown(self, lease: Lease) -> bool:
        """Whether the lease is smaller than what the study's trials need."""
        return not am.fit(self._demand.on(am.gpus_in(lease.amounts)), lease.amounts)

    def _grant(self) -> Grant:
        back = [
            GiveBack(self._slots[token].index, lease.back_reason, self._ledger.settings.rules.grace_s)
            for token, lease in self._leases.items() if lease.back_by is not None and token in self._slots
        ]
        back += [
            GiveBack(self._slots[token].index, "its trials need a larger part of a GPU", math.inf)
            for token, lease in self._leases.items()
            if lease.back_by is None and token in self._slots and self._is_outgrown(lease)
        ]
        slots = sorted(self._slots.values(), key=lambda slot: slot.index)
        return Grant(tuple(slots), tuple(back), self._trouble or "; ".join(self._unready.values()) or self._waiting)

    # --- GPUs

    def _gpus(self, amounts: Amounts) -> list[Gpu]:
        uuids = am.gpus_in(amounts)
        return [gpu for gpu in self._applicant.inventory.gpus if gpu.uuid in uuids]

    def _busy_gpu(self, lease: Lease) -> str:
        """Which of the lease's GPUs is not seen to be free yet, for a person to read; ``""`` where all are."""
        for gpu in self._gpus(lease.amounts):
            if not is_free(gpu, self._demand.gpu_millis, self._demand.gpu_memory_bytes, self._free_gpu_bytes):
                return f"waits until the memory of cuda:{gpu.index} is free"
        return ""

    def _usable(self, view: Mapping[str, int]) -> dict[str, int]:
        """The view without those GPUs that programs which know nothing of the ledger fill, if others are left."""
        if not self._demand.num_gpus:
            return dict(view)
        leased = self._ledger.leased_gpus()
        taken = [
            gpu.uuid for gpu in self._applicant.inventory.gpus if gpu.uuid not in leased and not is_free(
                gpu, self._demand.gpu_millis, self._demand.gpu_memory_bytes, self._free_gpu_bytes
            )
        ]
        if len(self._applicant.inventory.gpus) - len(taken) < self._demand.num_gpus:
            return dict(view)
        return {name: amount for name, amount in view.items() if name.partition("/")[2] not in taken}


def tenant_of_this_process(environ: Mapping[str, Any] | None = None) -> str:
    """``$VELODROME_TENANT``, else the user's login name."""
    environ = os.environ if environ is None else environ
    if named := environ.get(TENANT):
        return str(named)
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"
