"""The ledger's rows as values, at one moment: read in a transaction, changed in it, written by ``ledger``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from velodrome.resources import amounts as am
from velodrome.resources.amounts import Amounts
from velodrome.resources.demand import Demand
from velodrome.resources.fair_share import decayed
from velodrome.resources.holder import Holder
from velodrome.resources.settings import Settings
from velodrome.resources.state import Lease, Priority, Sharer, State, Tenant


@dataclass(slots=True)
class Rows:
    """All of the ledger.

    Attributes:
        now: The moment, in seconds since the epoch; usage is decayed to it.
        settings: The settings beside the ledger.
        tenants: By name.
        sharers: By number.
        holders: The process of each study.
        waiting: Why each waits, as it was written.
        leases: By token, in that order.
        touched_tenants: Those whose usage is to be written.
        touched_sharers: Likewise.
    """

    now: float
    settings: Settings
    tenants: dict[str, Tenant]
    sharers: dict[int, Sharer]
    holders: dict[int, Holder]
    waiting: dict[int, str]
    leases: dict[int, Lease]
    touched_tenants: dict[str, None] = field(default_factory=dict)
    touched_sharers: dict[int, None] = field(default_factory=dict)

    def state(self) -> State:
        """What decisions are made from. The machine is as large as the largest view of a study's process says."""
        capacity: dict[str, int] = {}
        for sharer in self.sharers.values():
            for name, amount in sharer.view.items():
                capacity[name] = max(amount, capacity.get(name, 0))
        capacity |= {am.CUSTOM + name: amount for name, amount in self.settings.custom.items()}
        return State(
            self.now, capacity, self.tenants, tuple(self.sharers.values()), tuple(self.leases.values()),
            self.settings.rules,
        )

    def touch(self, sharer: int) -> None:
        """The study's share changes: what it has used until now is to be written."""
        self.touched_sharers[sharer] = None
        self.touched_tenants[self.sharers[sharer].tenant] = None

    def forget(self, sharer: int) -> None:
        """The study is gone."""
        del self.sharers[sharer], self.holders[sharer]
        self.waiting.pop(sharer, None)


def read_rows(conn: sqlite3.Connection, now: float, settings: Settings) -> Rows:
    """Reads everything, in the transaction that is open."""
    sharers: dict[int, Sharer] = {}
    holders: dict[int, Holder] = {}
    waiting: dict[int, str] = {}
    elapsed: dict[int, float] = {}
    for row in conn.execute("SELECT * FROM sharers ORDER BY id"):
        id_, tenant, study, priority, pid, started, space, demand, view, wanted, since, usage, usage_at, reason = row
        sharers[id_] = Sharer(
            id_, tenant, study, Priority(priority), _demand(demand), _amounts(view), wanted, since, usage
        )
        holders[id_], waiting[id_], elapsed[id_] = Holder(pid, started, space), reason, now - usage_at
    leases = {
        token: Lease(token, sharer, _amounts(amounts), since, back_by, back_reason)
        for token, sharer, amounts, since, back_by, back_reason in conn.execute("SELECT * FROM leases ORDER BY token")
    }
    raw = conn.execute("SELECT name, usage, usage_at FROM tenants ORDER BY name").fetchall()
    tenants = {name: settings.tenant(name, usage) for name, usage, _ in raw}
    rows = Rows(now, settings, tenants, sharers, holders, waiting, leases)
    _decay(rows, {name: now - usage_at for name, _, usage_at in raw}, elapsed)
    return rows


def _decay(rows: Rows, tenants_s: Mapping[str, float], sharers_s: Mapping[int, float]) -> None:
    """Brings usage up to date: each share has been the same since it was written. Opportunistic leases are no usage."""
    capacity, half_life_s = rows.state().capacity, rows.settings.rules.half_life_s
    held: dict[str, list[Amounts]] = {}
    of_sharer: dict[int, list[Amounts]] = {}
    for lease in rows.leases.values():
        sharer = rows.sharers[lease.sharer]
        of_sharer.setdefault(sharer.id, []).append(lease.amounts)
        if not sharer.is_opportunistic:
            held.setdefault(sharer.tenant, []).append(lease.amounts)
    for name, elapsed_s in tenants_s.items():
        share = am.dominant_share(am.total(held.get(name, ())), capacity)
        tenant = rows.tenants[name]
        rows.tenants[name] = replace(tenant, usage=decayed(tenant.usage, share, elapsed_s, half_life_s))
    for id_, elapsed_s in sharers_s.items():
        share = am.dominant_share(am.total(of_sharer.get(id_, ())), capacity)
        sharer = rows.sharers[id_]
        rows.sharers[id_] = replace(sharer, usage=decayed(sharer.usage, share, elapsed_s, half_life_s))


@lru_cache(maxsize=1024)
def _amounts(text: str) -> Amounts:
    found: dict[str, int] = json.loads(text)
    return found


@lru_cache(maxsize=256)
def _demand(text: str) -> Demand:
    return Demand.from_json(text)
