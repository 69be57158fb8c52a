"""Who gets the next free slot: the order of the queue, a reservation for its head, and backfill behind it.

Guarantees come first, then fair shares, then opportunistic studies. Within these, the tenant gets the slot with whom
the inequality is lowest afterwards; within a tenant likewise the study; then who has waited longest.

The first that does not fit is the *head*. What it needs is reserved as far as it is free, and others may have what is
left: they never take what the head waits for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from velodrome.resources import amounts as am
from velodrome.resources.books import Books, Change
from velodrome.resources.state import Sharer


@dataclass(slots=True)
class Queue:
    """What came of serving the queue once.

    Attributes:
        grants: Studies and what each gets, in order; a study is named once for every slot.
        waiting: Why a study waits that could not be served, by its number.
        head: The study that things are reserved for.
        reserved: What is reserved.
        scarce: What somebody waits for; opportunistic studies get none of it.
    """

    grants: list[tuple[Sharer, dict[str, int]]] = field(default_factory=list)
    waiting: dict[int, str] = field(default_factory=dict)
    head: Sharer | None = None
    reserved: dict[str, int] = field(default_factory=dict)
    scarce: dict[str, None] = field(default_factory=dict)


def serve(books: Books) -> Queue:
    """Gives out what is free, taking note of it in the books."""
    queue = Queue()
    while (sharer := first(books, lambda s: s.id not in queue.waiting)) is not None:
        if reason := never(books, sharer):
            queue.waiting[sharer.id] = reason
            continue
        spare = am.minus(books.free, queue.reserved)
        if sharer.is_opportunistic:
            spare = {name: amount for name, amount in spare.items() if name not in queue.scarce}
        need = sharer.demand.place(books.free_for(sharer, spare))
        if need is not None and books.within_max(sharer, need):
            books.apply(Change(sharer, need, 1))
            queue.grants.append((sharer, need))
            continue
        queue.waiting[sharer.id] = "" if need is None else _at_max(books, sharer)
        if need is None:
            queue.scarce |= dict.fromkeys(_short_names(books, sharer))
            if queue.head is None:
                queue.head, queue.reserved = sharer, reserve(books, sharer)
    for sharer in books.state.sharers:
        if queue.waiting.get(sharer.id) == "":
            queue.waiting[sharer.id] = _short_of(books, sharer, queue)
    return queue


def first(books: Books, may: Callable[[Sharer], bool]) -> Sharer | None:
    """The study that is to have the next slot, of those that want more and ``may``; None where there is none."""
    best_of: dict[tuple[int, str], tuple[tuple[float, float, int], Sharer]] = {}
    for sharer in books.state.sharers:
        if sharer.wanted <= books.counts[sharer.id] or sharer.is_stopped or not may(sharer):
            continue
        need = _anywhere(books, sharer)
        rank = 0 if books.within_guarantee(sharer, need) else 2 if sharer.is_opportunistic else 1
        change = Change(sharer, need, 1)
        _, after = books.within_tenant(sharer.tenant, [change], idle=sharer.is_opportunistic)
        key = rank, sharer.tenant
        mine = (after, sharer.since, sharer.id), sharer
        if key not in best_of or mine[0] < best_of[key][0]:
            best_of[key] = mine
    candidates = []
    for (rank, _), ((_, since, id_), sharer) in best_of.items():
        after = 0.0
        if len(best_of) > 1:
            change = Change(sharer, _anywhere(books, sharer), 1)
            _, after = books.among_tenants([change], idle=sharer.is_opportunistic)
        candidates.append(((rank, after, since, id_), sharer))
    return min(candidates, key=lambda pair: pair[0])[1] if candidates else None


def never(books: Books, sharer: Sharer) -> str:
    """Why a study could get no slot even of the empty machine, or ``""``."""
    whole = am.least(books.state.capacity, dict(sharer.view) | {
        name: amount for name, amount in books.state.capacity.items() if name.startswith(am.CUSTOM)
    })
    if sharer.demand.place(whole) is None:
        return f"asks for more than there is: {sharer.demand} for each trial"
    if am.dominant_share(_anywhere(books, sharer), books.state.capacity) > books.tenant(sharer).max + 1e-9:
        return _at_max(books, sharer)
    return ""


def _anywhere(books: Books, sharer: Sharer) -> dict[str, int]:
    """A slot of the study on any of its GPUs: what it counts, wherever it will be."""
    return sharer.demand.on(am.gpus_in(sharer.view)[: sharer.demand.num_gpus])


def reserve(books: Books, sharer: Sharer) -> dict[str, int]:
    """What of the free is kept for a study's next slot: on the GPUs that have most free."""
    free = books.free_for(sharer, books.free)
    uuids = sorted(am.gpus_in(free), key=lambda uuid: (-free[am.GPU + uuid], uuid))[: sharer.demand.num_gpus]
    return {name: max(0, amount) for name, amount in am.least(sharer.demand.on(uuids), free).items()}


def _at_max(books: Books, sharer: Sharer) -> str:
    return f"{sharer.tenant} is at its maximum, {books.tenant(sharer).max:.0%} of the machine"


def _short_of(books: Books, sharer: Sharer, queue: Queue) -> str:
    """What a study that waits is short of, and who has it."""
    short = list(dict.fromkeys(_kind(name) for name in _short_names(books, sharer)))
    if not short:
        return f"what is free is kept for {queue.head}, which is first in the queue"
    holders = ", ".join(_holders(books, sharer))
    place = "first in the queue" if queue.head is sharer else "in the queue"
    return f"{place}: too little of {' and '.join(short)} is free" + (f"; {holders}" if holders else "")


def _short_names(books: Books, sharer: Sharer) -> list[str]:
    """Of what there is too little for the study's next slot."""
    free = books.free_for(sharer, books.free)
    short = [name for name, amount in sharer.demand.fixed().items() if free.get(name, 0) < amount]
    num_gpus, uuids = sharer.demand.num_gpus, am.gpus_in(free)
    if num_gpus and sum(sharer.demand.fits_gpu(uuid, free) for uuid in uuids) < num_gpus:
        short += [prefix + uuid for uuid in uuids for prefix in (am.GPU, am.GPU_MEMORY)]
    return short


def _holders(books: Books, sharer: Sharer) -> list[str]:
    counts = books.counts
    held = sorted((s for s in books.state.sharers if counts[s.id]), key=lambda s: (-counts[s.id], s.id))
    return [f"{'this study' if s is sharer else s} holds {counts[s.id]}" for s in held[:4]]


def _kind(name: str) -> str:
    return "GPUs" if name.startswith((am.GPU, am.GPU_MEMORY)) else name.removeprefix(am.CUSTOM)
