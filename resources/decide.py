"""What happens next on a shared machine: a pure function of the ledger's rows.

Whoever writes to the ledger makes this decision, for all studies, and writes it down in the same transaction. So there
is never more given out than there is, and no process has to be there for the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from velodrome.resources.amounts import Amounts
from velodrome.resources.books import Books
from velodrome.resources.preemption import Preemption, preemptions
from velodrome.resources.queue import serve
from velodrome.resources.state import Lease, State


@dataclass(frozen=True, slots=True)
class Decision:
    """What changes.

    Attributes:
        grants: Numbers of studies and what each gets, in order.
        take_back: Leases to be asked back.
        leave: Tokens of leases that were asked back and need not be any more: nobody waits.
        waiting: Why each study that wants more than it holds waits, by its number.
    """

    grants: tuple[tuple[int, Amounts], ...]
    take_back: tuple[Preemption, ...]
    leave: tuple[int, ...]
    waiting: dict[int, str]


def decide(state: State) -> Decision:
    """Gives out what is free, and asks back what others should have."""
    books = Books(state, state.leases)
    queue = serve(books)
    asked_back = [lease for lease in state.leases if lease.back_by is not None]
    waiting = {
        sharer.id: queue.waiting.get(sharer.id) or ("stopped" if sharer.is_stopped else "")
        for sharer in state.sharers if sharer.wanted > books.counts[sharer.id]
    }
    if asked_back:
        waiting = {id_: f"{reason}; {len(asked_back)} slots are being given back" for id_, reason in waiting.items()}
    leave = [lease for lease in asked_back if not any(id_ != lease.sharer for id_ in waiting)]
    fresh = [Lease(0, sharer.id, amounts, state.now) for sharer, amounts in queue.grants]
    stay = [lease for lease in state.leases if lease.back_by is None or lease in leave]
    take_back = preemptions(state, stay, fresh) if waiting else []
    for preemption in take_back:
        holder = books.sharers[preemption.lease.sharer]
        waiting[preemption.beneficiary.id] = f"{holder} was asked to give slots back"
    return Decision(
        tuple((sharer.id, amounts) for sharer, amounts in queue.grants), tuple(take_back),
        tuple(lease.token for lease in leave), waiting,
    )
