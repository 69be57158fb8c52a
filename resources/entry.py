"""What a study pays for beginning to compete: the entry penalty against bursts, for its tenant and for itself."""

from __future__ import annotations

from dataclasses import dataclass

from velodrome.resources.books import Books
from velodrome.resources.fair_share import entry_usage
from velodrome.resources.state import State


@dataclass(frozen=True, slots=True)
class Entry:
    """The usage that counts from now on; None where it stays as it is.

    Attributes:
        of_tenant: The tenant's, where all its studies had what they wanted until now.
        of_sharer: The study's among those of its tenant, where it had what it wanted until now.
    """

    of_tenant: float | None = None
    of_sharer: float | None = None


def entry(state: State, id_: int, wanted: int) -> Entry:
    """What is to be paid.

    Args:
        state: The machine before.
        id_: The study's number.
        wanted: How many slots it is about to want.
    """
    books = Books(state, state.leases)
    sharer, held = books.sharers[id_], books.counts[id_]
    if wanted <= held or sharer.wanted > held or sharer.is_opportunistic:
        return Entry()
    mates = [s for s in state.sharers if s.tenant == sharer.tenant and not s.is_opportunistic]
    of_tenant = None
    if all(s.wanted <= books.counts[s.id] for s in mates):
        tenant = state.tenants[sharer.tenant]
        others = [
            (books.share_of_tenant(t.name), t.usage / t.weight) for t in state.tenants.values() if t.name != tenant.name
        ]
        of_tenant = entry_usage(tenant.usage, tenant.weight, others)
    inside = [(books.share_of_sharer(s.id), s.usage) for s in mates if s.id != id_]
    return Entry(of_tenant, entry_usage(sharer.usage, 1.0, inside))
