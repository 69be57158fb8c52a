"""What ``velo resources`` shows: the machine, who holds what, who waits and why. Reading keeps nobody from writing."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace

from velodrome.resources import amounts as am
from velodrome.resources.books import Books
from velodrome.resources.holder import Life
from velodrome.resources.inventory import Inventory
from velodrome.resources.ledger_file import explained, open_readonly
from velodrome.resources.ledger_place import Place
from velodrome.resources.ledger_rows import Rows, read_rows
from velodrome.resources.settings import Settings, read_settings
from velodrome.resources.state import Sharer, Tenant


@dataclass(frozen=True, slots=True)
class Device:
    """Something of the machine that is counted.

    Attributes:
        name: ``cores``, ``memory``, ``cuda:0``, ``cuda:0 memory``, or a custom resource's.
        total: How much there is: thousandths of cores and GPUs, bytes, or a count.
        held: How much of it studies hold.
        unit: ``millis``, ``bytes`` or ``count``.
    """

    name: str
    total: int
    held: int
    unit: str


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study that runs.

    Attributes:
        sharer: The study.
        pid: Its process.
        slots: How many it holds, and of these how many it was asked to give back.
        asked_back: See ``slots``.
        held_since: When it got its oldest slot; None where it has none.
        share: The dominant share that it holds.
        waiting: Why it does not have all that it wants, or ``""``.
    """

    sharer: Sharer
    pid: int
    slots: int
    asked_back: int
    held_since: float | None
    share: float
    waiting: str


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant: settings, the share that it holds, and the share that is due while all of these want more."""

    tenant: Tenant
    share: float
    due: float


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it.

    Attributes:
        place: The ledger; None where sharing is off.
        devices: What is counted.
        studies: Those that run, in the order in which they came.
        tenants: Those that the ledger or the settings know, by name.
        settings: The settings for sharing.
    """

    place: Place | None
    devices: tuple[Device, ...]
    studies: tuple[StudyView, ...]
    tenants: tuple[TenantView, ...]
    settings: Settings


def look(place: Place | None, inventory: Inventory, now: float) -> Overview:
    """The machine as it is now.

    Args:
        place: The ledger; None where sharing is off.
        inventory: What this process sees of the machine.
        now: The time, in seconds since the epoch.

    Raises:
        LedgerError: If the ledger can't be read.
        UsageError: If the settings beside it are not understood.
    """
    settings = read_settings(place.settings) if place is not None else Settings()
    rows = _read(place, now, settings)
    state = rows.state()
    capacity = am.of_inventory(inventory, settings.custom)
    for name, amount in state.capacity.items():
        capacity[name] = max(amount, capacity.get(name, 0))
    state = replace(state, capacity=capacity)
    books = Books(state, state.leases)
    studies = tuple(
        _study(rows, books, sharer) for sharer in state.sharers if sharer.wanted or books.counts[sharer.id]
    )
    names = sorted({*state.tenants, *settings.tenants})
    tenants = {name: state.tenants.get(name) or settings.tenant(name) for name in names}
    here = {view.sharer.tenant: None for view in studies}
    weights = sum(tenants[name].weight for name in here)
    views = tuple(
        TenantView(tenant, books.share_of_tenant(name), tenant.weight / weights if name in here else 0.0)
        for name, tenant in tenants.items()
    )
    return Overview(place, _devices(inventory, capacity, books.free), studies, views, settings)


def _read(place: Place | None, now: float, settings: Settings) -> Rows:
    """The ledger's rows without those of processes that are gone."""
    conn = open_readonly(place.path) if place is not None else None
    if conn is None or place is None:
        return Rows(now, settings, {}, {}, {}, {}, {})
    try:
        conn.execute("BEGIN")
        rows = read_rows(conn, now, settings)
    except sqlite3.Error as error:
        raise explained(error, place.path, "reading it") from error
    finally:
        conn.close()
    for id_, holder in list(rows.holders.items()):
        life = holder.life()
        if life is Life.GONE:
            for token in [lease.token for lease in rows.leases.values() if lease.sharer == id_]:
                del rows.leases[token]
            rows.forget(id_)
        elif life is Life.STOPPED:
            rows.sharers[id_] = replace(rows.sharers[id_], is_stopped=True)
    return rows


def _study(rows: Rows, books: Books, sharer: Sharer) -> StudyView:
    leases = [lease for lease in rows.leases.values() if lease.sharer == sharer.id]
    return StudyView(
        sharer, rows.holders[sharer.id].pid, len(leases), sum(lease.back_by is not None for lease in leases),
        min((lease.since for lease in leases), default=None), books.share_of_sharer(sharer.id),
        "its process is stopped" if sharer.is_stopped else rows.waiting.get(sharer.id, ""),
    )


def _devices(inventory: Inventory, capacity: Mapping[str, int], free: Mapping[str, int]) -> tuple[Device, ...]:
    labels = {gpu.uuid: f"cuda:{gpu.index} {gpu.name}" for gpu in inventory.gpus}
    found = []
    for name, amount in capacity.items():
        uuid = name.partition("/")[2]
        if name.startswith(am.GPU):
            label, unit = labels.get(uuid, uuid), "millis"
        elif name.startswith(am.GPU_MEMORY):
            label, unit = f"{labels.get(uuid, uuid)} memory", "bytes"
        else:
            label = name.removeprefix(am.CUSTOM)
            unit = {am.CORES: "millis", am.MEMORY: "bytes"}.get(name, "count")
        found.append(Device(label, amount, amount - free.get(name, 0), unit))
    return tuple(found)
