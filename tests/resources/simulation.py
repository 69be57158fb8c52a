"""A machine that is shared in simulated time: decisions are carried out as the ledger and the studies would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from velodrome.resources import amounts as am
from velodrome.resources.amounts import Amounts
from velodrome.resources.books import Books
from velodrome.resources.decide import Decision, decide
from velodrome.resources.demand import Demand
from velodrome.resources.entry import entry
from velodrome.resources.fair_share import decayed
from velodrome.resources.state import Lease, Priority, Rules, Sharer, State, Tenant


@dataclass
class Machine:
    """Tenants, studies and leases; time moves in ``run``.

    Attributes:
        lag_s: How long a study takes to give back a slot that is asked back.
        used: Seconds of the whole machine (dominant share) that each tenant has really had.
        moves: How many leases were asked back.
    """

    capacity: Amounts
    rules: Rules = field(default_factory=Rules)
    lag_s: float = 0.0
    now: float = 1000.0
    tenants: dict[str, Tenant] = field(default_factory=dict)
    sharers: dict[int, Sharer] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    moves: int = 0
    next_token: int = 1

    def state(self) -> State:
        return State(
            self.now, self.capacity, self.tenants, tuple(self.sharers.values()), tuple(self.leases.values()), self.rules
        )

    def add_tenant(self, name: str, **settings: float) -> None:
        self.tenants[name] = Tenant(name, **settings)

    def add(self, tenant: str, wanted: int, demand: Demand | None = None, priority: Priority = Priority.NORMAL) -> int:
        """A study comes; its tenant pays the entry penalty where it was content before."""
        id_ = len(self.sharers) + 1
        if tenant not in self.tenants:
            self.add_tenant(tenant)
        self.sharers[id_] = Sharer(
            id_, tenant, f"study{id_}", priority, demand or Demand(), self.capacity, 0, self.now
        )
        self.want(id_, wanted)
        return id_

    def want(self, id_: int, wanted: int) -> None:
        paid, sharer = entry(self.state(), id_, wanted), self.sharers[id_]
        if paid.of_tenant is not None:
            self.tenants[sharer.tenant] = replace(self.tenants[sharer.tenant], usage=paid.of_tenant)
        if paid.of_sharer is not None:
            sharer = replace(sharer, usage=paid.of_sharer, since=self.now)
        self.sharers[id_] = replace(sharer, wanted=wanted)

    def leave(self, id_: int) -> None:
        self.want(id_, 0)
        for token in [lease.token for lease in self.leases.values() if lease.sharer == id_]:
            del self.leases[token]

    def held(self, id_: int) -> int:
        return sum(lease.sharer == id_ for lease in self.leases.values())

    def step(self) -> Decision:
        """One decision at this moment, carried out."""
        decision = decide(self.state())
        for id_, amounts in decision.grants:
            self.leases[self.next_token] = Lease(self.next_token, id_, amounts, self.now)
            self.next_token += 1
        for token in decision.leave:
            self.leases[token] = replace(self.leases[token], back_by=None)
        for preemption in decision.take_back:
            lease = preemption.lease
            self.leases[lease.token] = replace(lease, back_by=self.now + self.lag_s, back_reason=preemption.reason)
            self.moves += 1
        free = am.minus(self.capacity, am.total(lease.amounts for lease in self.leases.values()))
        assert all(amount >= 0 for amount in free.values()), f"overcommitted: {free}"
        return decision

    def give_back(self) -> bool:
        """Studies give back what they were asked for long enough ago; whether there was any."""
        due = [lease.token for lease in self.leases.values() if lease.back_by is not None and lease.back_by <= self.now]
        for token in due:
            del self.leases[token]
        return bool(due)

    def settle(self, most: int = 500) -> None:
        """Decides and gives back until nothing moves at this moment."""
        for _ in range(most):
            decision = self.step()
            if not self.give_back() and not decision.grants:
                return
        raise AssertionError("it never settles: ping-pong")

    def run(self, seconds: float, step_s: float = 0.5, each: Callable[[], None] = lambda: None) -> None:
        """Time passes."""
        for _ in range(round(seconds / step_s)):
            self.settle()
            each()
            books = Books(self.state(), self.leases.values())
            for name, tenant in self.tenants.items():
                share = books.share_of_tenant(name)
                self.used[name] += share * step_s
                usage = decayed(tenant.usage, share, step_s, self.rules.half_life_s)
                self.tenants[name] = replace(tenant, usage=usage)
            for id_, sharer in self.sharers.items():
                usage = decayed(sharer.usage, books.share_of_sharer(id_), step_s, self.rules.half_life_s)
                self.sharers[id_] = replace(sharer, usage=usage)
            self.now += step_s
