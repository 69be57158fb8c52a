"""Which slots are to be given back, by whom and for whom: only where that strictly lowers the inequality.

For a study that waits and can't be served from what is free or on its way, the leases are looked for that have to go
to make room for one of its slots. The measure is lexicographic; a transfer must lower it:

1. what is missing of guarantees (guaranteed leases within their guarantee are never asked back),
2. what opportunistic studies hold while others wait,
3. the inequality among tenants (``fair_share``), 4. the inequality among the studies of one tenant.

The measure depends on who holds what alone, so no allocation comes back at the same moment. And a lease that is
younger than the quantum is not asked back for the sake of 3 and 4, so that nothing moves more often than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from velodrome.resources import amounts as am
from velodrome.resources.amounts import Amounts
from velodrome.resources.books import Books, Change
from velodrome.resources.fair_share import is_lower
from velodrome.resources.queue import first, never, reserve
from velodrome.resources.state import Lease, Priority, Sharer, State


@dataclass(frozen=True, slots=True)
class Preemption:
    """A lease to be given back.

    Attributes:
        lease: Which.
        beneficiary: The study it is for.
        reason: Why, for a person to read.
    """

    lease: Lease
    beneficiary: Sharer
    reason: str


def preemptions(state: State, held: Sequence[Lease], fresh: Sequence[Lease] = ()) -> list[Preemption]:
    """What is to be asked back.

    Args:
        state: The machine and its studies.
        held: The leases that may be asked back: those that were not yet. The others count as free already.
        fresh: Leases that are being granted; they stay.
    """
    books = Books(state, [*held, *fresh])
    candidates = list(held)
    found: list[Preemption] = []
    hopeless: list[int] = []
    has_head = False
    while (sharer := first(books, lambda s: s.id not in hopeless)) is not None:
        impossible = bool(never(books, sharer))
        need = None if impossible else sharer.demand.place(books.free_for(sharer, books.free))
        if need is not None and books.within_max(sharer, need):
            books.apply(Change(sharer, need, 1))  # it is on its way
            continue
        choice = None if impossible or need is not None else _cheapest(books, sharer, candidates)
        if choice is None:
            if not has_head and not impossible and need is None:  # as in the queue: what it waits for is kept for it
                has_head, books.free = True, am.minus(books.free, reserve(books, sharer))
            hopeless.append(sharer.id)
            continue
        victims, need, reason = choice
        for lease in victims:
            candidates.remove(lease)
            books.apply(Change(books.sharers[lease.sharer], lease.amounts, -1))
            found.append(Preemption(lease, sharer, reason))
        books.apply(Change(sharer, need, 1))
    return found


def _cheapest(
    books: Books, sharer: Sharer, candidates: Iterable[Lease]
) -> tuple[list[Lease], dict[str, int], str] | None:
    """The leases that must go for one slot of the study, what the slot takes, and the reason; None where none may."""
    order = _in_order(books, sharer, candidates)
    found: list[tuple[int, list[Lease], dict[str, int], str]] = []
    for uuids in _gpu_choices(books, sharer, order):
        need = sharer.demand.on(uuids)
        if not books.within_max(sharer, need):
            continue
        victims = _make_room(books, sharer, need, order)
        if victims is not None and (reason := _why(books, sharer, need, victims)):
            found.append((len(victims), victims, need, reason))
    if not found:
        return None
    _, victims, need, reason = min(found, key=lambda choice: choice[0])
    return victims, need, reason


def _in_order(books: Books, sharer: Sharer, leases: Iterable[Lease]) -> list[Lease]:
    """The leases that may have to go, the first to go first: opportunistic ones, then those of who has had most."""
    state, is_due = books.state, books.within_guarantee(sharer, sharer.demand.on(()))
    protected = _protected(books, state)
    found = []
    for lease in leases:
        holder = books.sharers[lease.sharer]
        if holder is sharer or holder.is_stopped or lease.token in protected:
            continue
        if sharer.is_opportunistic and not holder.is_opportunistic:
            continue
        at_once = is_due or (holder.is_opportunistic and not sharer.is_opportunistic)
        if not at_once and lease.since + state.rules.quantum_s > state.now:
            continue
        tenant = state.tenants[holder.tenant]
        share = books.share_of_tenant(holder.tenant, idle=holder.is_opportunistic)
        used = 0.0 if holder.is_opportunistic else tenant.usage
        level = (used + state.rules.quantum_s * share) / tenant.weight
        of_study = holder.usage + state.rules.quantum_s * books.share_of_sharer(holder.id)
        found.append(((not holder.is_opportunistic, -level, -of_study, -lease.since, -lease.token), lease))
    return [lease for _, lease in sorted(found, key=lambda pair: pair[0])]


def _protected(books: Books, state: State) -> dict[int, None]:
    """The tokens of the leases that are within a guarantee: of each tenant's guaranteed ones, the oldest."""
    tokens: dict[int, None] = {}
    held: dict[str, dict[str, int]] = {}
    for lease in sorted(state.leases, key=lambda lease: lease.token):
        holder = books.sharers[lease.sharer]
        guarantee = state.tenants[holder.tenant].guarantee
        if holder.priority is not Priority.GUARANTEED or guarantee <= 0:
            continue
        more = am.plus(held.get(holder.tenant, {}), lease.amounts)
        if am.dominant_share(more, state.capacity) <= guarantee + 1e-9:
            held[holder.tenant] = more
            tokens[lease.token] = None
    return tokens


def _gpu_choices(books: Books, sharer: Sharer, order: Sequence[Lease]) -> list[tuple[str, ...]]:
    """The GPUs that the slot may be on: where the fewest leases have to go, and, for one GPU, every other as well."""
    if not sharer.demand.num_gpus:
        return [()]
    costs = []
    for uuid in am.gpus_in(sharer.view):
        on_it = {name: amount for name, amount in sharer.demand.on([uuid]).items() if name.endswith("/" + uuid)}
        victims = _make_room(books, sharer, on_it, order)
        if victims is not None:
            costs.append((len(victims), uuid))
    costs.sort()
    if len(costs) < sharer.demand.num_gpus:
        return []
    if sharer.demand.num_gpus == 1:
        return [(uuid,) for _, uuid in costs]
    return [tuple(uuid for _, uuid in costs[: sharer.demand.num_gpus])]


def _make_room(books: Books, sharer: Sharer, need: Amounts, order: Sequence[Lease]) -> list[Lease] | None:
    """The leases that must go, in order, so that there is room; None where all of them would not do."""
    free: Amounts = books.free
    chosen: list[Lease] = []
    for lease in order:
        short = [name for name, amount in need.items() if books.free_for(sharer, free).get(name, 0) < amount]
        if not short:
            break
        if any(lease.amounts.get(name, 0) for name in short):
            chosen.append(lease)
            free = am.plus(free, lease.amounts)
    if not am.fit(need, books.free_for(sharer, free)):
        return None
    for lease in list(chosen):  # a later, larger one may have made an earlier one unnecessary
        without = am.minus(free, lease.amounts)
        if am.fit(need, books.free_for(sharer, without)):
            chosen.remove(lease)
            free = without
    return chosen


def _why(books: Books, sharer: Sharer, need: Amounts, victims: Sequence[Lease]) -> str:
    """Why the victims should go, or ``""`` where they should not."""
    if books.within_guarantee(sharer, need):
        return f"{sharer.tenant} is guaranteed {books.tenant(sharer).guarantee:.0%} of the machine ({sharer.name})"
    idle = sharer.is_opportunistic
    serious = [lease for lease in victims if books.sharers[lease.sharer].is_opportunistic is idle]
    if not serious:
        return f"{sharer} waits, and this study takes only what nobody else wants"
    changes = [Change(sharer, need, 1), *(Change(books.sharers[x.sharer], x.amounts, -1) for x in victims)]
    before, after = books.among_tenants(changes, idle=idle)
    if is_lower(after, before):
        return f"{sharer} has had less than its share"
    within_before, within_after = books.within_tenant(sharer.tenant, changes, idle=idle)
    if not is_lower(before, after) and is_lower(within_after, within_before):
        return f"{sharer} has had less than the tenant's other studies"
    return ""
