"""Who holds what while a decision is being made: the leases as they are, and as they would be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from velodrome.resources import amounts as am
from velodrome.resources.amounts import Amounts
from velodrome.resources.fair_share import Balance
from velodrome.resources.state import Lease, Priority, Sharer, State, Tenant

K = TypeVar("K", int, str)
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Change:
    """A slot more (``sign`` 1) or less (-1) for a study."""

    sharer: Sharer
    amounts: Amounts
    sign: int


class Books:
    """Adds up what everybody holds.

    Args:
        state: The machine and its studies.
        leases: Those that count.

    Attributes:
        free: What nobody holds.
        counts: How many slots each study holds, by its number.
    """

    def __init__(self, state: State, leases: Iterable[Lease]) -> None:
        self.state = state
        self.sharers = {sharer.id: sharer for sharer in state.sharers}
        self.free = dict(state.capacity)
        self.counts = dict.fromkeys(self.sharers, 0)
        self._of_sharer: dict[int, dict[str, int]] = {id_: {} for id_ in self.sharers}
        self._of_tenant: dict[tuple[str, bool], dict[str, int]] = {}
        self._guaranteed: dict[str, dict[str, int]] = {}
        for lease in leases:
            self.apply(Change(self.sharers[lease.sharer], lease.amounts, 1))

    def apply(self, change: Change) -> None:
        """Takes note of a slot more or less."""
        sharer, add = change.sharer, am.plus if change.sign > 0 else am.minus
        self.free = (am.minus if change.sign > 0 else am.plus)(self.free, change.amounts)
        self.counts[sharer.id] += change.sign
        self._of_sharer[sharer.id] = add(self._of_sharer[sharer.id], change.amounts)
        key = sharer.tenant, sharer.is_opportunistic
        self._of_tenant[key] = add(self._of_tenant.get(key, {}), change.amounts)
        if sharer.priority is Priority.GUARANTEED:
            self._guaranteed[sharer.tenant] = add(self._guaranteed.get(sharer.tenant, {}), change.amounts)

    def tenant(self, sharer: Sharer) -> Tenant:
        """Whose study it is."""
        return self.state.tenants[sharer.tenant]

    def free_for(self, sharer: Sharer, free: Amounts) -> dict[str, int]:
        """What of the free the study's process may use at all."""
        return am.least(free, am.minus(sharer.view, self._of_sharer[sharer.id]) | _custom(free))

    def within_max(self, sharer: Sharer, need: Amounts) -> bool:
        """Whether the tenant stays within its maximum with that much more."""
        most = self.tenant(sharer).max
        if most >= 1.0:
            return True
        held = am.total(self._of_tenant.get((sharer.tenant, idle), {}) for idle in (False, True))
        return am.dominant_share(am.plus(held, need), self.state.capacity) <= most + _SLACK

    def within_guarantee(self, sharer: Sharer, need: Amounts) -> bool:
        """Whether the study's next slot is one that is guaranteed to its tenant."""
        guarantee = self.tenant(sharer).guarantee
        if sharer.priority is not Priority.GUARANTEED or guarantee <= 0:
            return False
        held = am.plus(self._guaranteed.get(sharer.tenant, {}), need)
        return am.dominant_share(held, self.state.capacity) <= guarantee + _SLACK

    def share_of_tenant(self, tenant: str, *, idle: bool = False) -> float:
        """The dominant share that a tenant holds, of opportunistic leases or of all others."""
        return am.dominant_share(self._of_tenant.get((tenant, idle), {}), self.state.capacity)

    def share_of_sharer(self, sharer: int) -> float:
        """The dominant share that a study holds."""
        return am.dominant_share(self._of_sharer[sharer], self.state.capacity)

    # --- inequality

    def among_tenants(self, changes: Iterable[Change], *, idle: bool) -> tuple[float, float]:
        """The inequality among tenants without and with the changes.

        Args:
            changes: Slots more or less.
            idle: Whether among opportunistic leases (by what they hold, for these are not usage) or among the others.
        """
        states = self.state.tenants
        active = {s.tenant for s in self.state.sharers if s.is_opportunistic is idle and _competes(s, self.counts)}
        balance = Balance(
            {name: states[name].weight for name in sorted(active)},
            {} if idle else {name: states[name].usage for name in active},
            {name: self.share_of_tenant(name, idle=idle) for name in active}, self.state.rules.quantum_s,
        )
        held: dict[str, dict[str, int]] = {}
        for change in changes:
            if change.sharer.is_opportunistic is idle:
                name = change.sharer.tenant
                before = held.get(name, self._of_tenant.get((name, idle), {}))
                held[name] = (am.plus if change.sign > 0 else am.minus)(before, change.amounts)
        return balance.inequality(), balance.inequality(self._shares(held))

    def within_tenant(self, tenant: str, changes: Iterable[Change], *, idle: bool) -> tuple[float, float]:
        """The same among the studies of one tenant, each with weight 1."""
        mine = [
            s for s in self.state.sharers
            if s.tenant == tenant and s.is_opportunistic is idle and _competes(s, self.counts)
        ]
        balance = Balance(
            {s.id: 1.0 for s in mine}, {} if idle else {s.id: s.usage for s in mine},
            {s.id: self.share_of_sharer(s.id) for s in mine}, self.state.rules.quantum_s,
        )
        held: dict[int, dict[str, int]] = {}
        for change in changes:
            id_ = change.sharer.id
            if change.sharer.tenant == tenant and change.sharer.is_opportunistic is idle:
                before = held.get(id_, self._of_sharer[id_])
                held[id_] = (am.plus if change.sign > 0 else am.minus)(before, change.amounts)
        return balance.inequality(), balance.inequality(self._shares(held))

    def _shares(self, held: Mapping[K, Amounts]) -> dict[K, float]:
        return {key: am.dominant_share(amounts, self.state.capacity) for key, amounts in held.items()}


def _competes(sharer: Sharer, counts: Mapping[int, int]) -> bool:
    return sharer.wanted > 0 or counts[sharer.id] > 0


def _custom(amounts: Amounts) -> dict[str, int]:
    """Custom resources are everybody's to see."""
    return {name: amount for name, amount in amounts.items() if name.startswith(am.CUSTOM)}
