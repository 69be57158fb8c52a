"""A study inside a trial: it lives on its trial's lease, for waiting for another one could go on for ever.

A worker's environment names its lease, and the process that holds it, in ``VELODROME_LEASE``. A study that starts where
that is set, and where that process still runs, asks the ledger for nothing; the cores of the lease are its machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from velodrome.resources import amounts as am
from velodrome.resources.holder import Holder, Life
from velodrome.resources.inventory import Inventory
from velodrome.resources.state import Lease

VARIABLE = "VELODROME_LEASE"


def mark(lease: Lease) -> dict[str, str]:
    """The environment variable that tells a trial of this process's lease."""
    me = Holder.current()
    millis = lease.amounts.get(am.CORES, am.WHOLE)
    return {VARIABLE: f"{lease.token}:{millis}:{me.pid}:{me.started}:{me.space}"}


def inherited(inventory: Inventory, environ: Mapping[str, str] | None = None) -> Inventory | None:
    """The part of the machine that an enclosing trial's lease gives; None where there is no such trial."""
    environ = os.environ if environ is None else environ
    parts = environ.get(VARIABLE, "").split(":", 4)
    if len(parts) != 5 or not all(part.isdecimal() for part in parts[:4]):
        return None
    _, millis, pid, started = map(int, parts[:4])
    if Holder(pid, started, parts[4]).life() is Life.GONE:
        return None
    return replace(inventory, cpus=max(1, min(inventory.cpus, millis // am.WHOLE)))
