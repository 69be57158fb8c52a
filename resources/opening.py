"""How a study comes by its share of the machine: from the ledger, from the trial around it, or all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from velodrome.errors import LedgerError, UsageError, nearest
from velodrome.resources import amounts as am
from velodrome.resources.allocator import Plan
from velodrome.resources.demand import Demand
from velodrome.resources.inventory import Inventory
from velodrome.resources.ledger import Ledger
from velodrome.resources.ledger_file import open_readonly
from velodrome.resources.ledger_place import Place, find
from velodrome.resources.nested import inherited
from velodrome.resources.settings import read_settings
from velodrome.resources.share import Share, WholeShare
from velodrome.resources.state import Priority
from velodrome.resources.tenancy import Applicant, LedgerShare, tenant_of_this_process


@dataclass(frozen=True, slots=True)
class Machine:
    """What a study finds when it starts.

    Attributes:
        inventory: What it may plan with: with a ledger all that the process may use, whoever uses it now.
        place: Where the ledger is; None where the study has the machine, or its trial's part of it, to itself.
        custom: Other resources that are counted, and how much there is of each.
        note: Why there is no ledger, or ``""``.
    """

    inventory: Inventory
    place: Place | None
    custom: Mapping[str, int]
    note: str = ""


def find_machine(environ: Mapping[str, str] | None = None) -> Machine:
    """This machine, and the ledger that says how it is shared.

    Raises:
        UsageError: If a configuration file or the settings for sharing are not understood.
        LedgerError: If the ledger that is named can't be used.
    """
    inventory = Inventory.detect(environ=environ)
    if (part := inherited(inventory, environ)) is not None:
        return Machine(part, None, {}, "it runs inside a trial, on that trial's lease")
    place = find(environ)
    if place is None:
        return Machine(inventory, None, {}, "sharing is off")
    gpus = tuple(replace(gpu, free_bytes=gpu.memory_bytes) for gpu in inventory.gpus)
    return Machine(replace(inventory, gpus=gpus), place, read_settings(place.settings).custom)


def open_share(
    machine: Machine, planned: Plan, study: str, priority: str = Priority.NORMAL, threads: int | None = None,
    *, gpu_peak_bytes: int | None = None,
) -> tuple[Share, str]:
    """The study's share, and a sentence on it for the record, or ``""``.

    Args:
        machine: What ``find_machine`` found.
        planned: The workers that it would have by itself.
        study: Its name.
        priority: Its class.
        threads: How many threads each worker is to have, whoever else is there; None for as many as fit.
        gpu_peak_bytes: The most GPU memory that such trials were seen to use (``Applicant.gpu_peak_bytes``).

    Raises:
        UsageError: If there is no such class, or one trial asks for more than the machine has.
        LedgerError: If the ledger can't be used. One that is not named and can't be made is done without.
    """
    chosen = check_priority(priority)
    if machine.place is None:
        return WholeShare(planned.slots), machine.note
    inventory, workers = machine.inventory, len(planned.slots)
    demand, whole = Demand.of(planned.request, inventory.cpus, workers), am.of_inventory(inventory, machine.custom)
    if demand.place(whole) is None:
        counted = [f"{amount} {name}" for name, amount in machine.custom.items()]
        raise UsageError(
            "One trial asks for more than the machine has", given=str(demand),
            allowed=", ".join([f"{inventory.cpus} cores", f"{len(inventory.gpus)} GPUs", *counted]),
        )
    try:
        ledger = Ledger(machine.place)
    except LedgerError as error:
        if machine.place.is_shared or machine.place.path.exists():
            raise
        return WholeShare(planned.slots), f"not shared with other studies: {error.what.lower()}: {error.given}"
    try:
        return LedgerShare(ledger, Applicant(
            tenant_of_this_process(), study, chosen, planned.request, inventory, workers,
            max(slot.threads for slot in planned.slots), threads is not None, gpu_peak_bytes,
        )), ""
    except BaseException:
        ledger.close()
        raise


def known_peak(machine: Machine, kind: str) -> int | None:
    """The most GPU memory that trials of a kind were seen to use, in bytes; None where none was seen, or can't be."""
    conn = open_readonly(machine.place.path) if machine.place is not None else None
    if conn is None or machine.place is None:
        return None
    try:
        row = conn.execute("SELECT bytes FROM peaks WHERE kind = ?", (kind,)).fetchone()
    finally:
        conn.close()
    return None if row is None else int(row[0])


def check_priority(priority: str) -> Priority:
    """The class of that name.

    Raises:
        UsageError: If there is none.
    """
    names = [str(known) for known in Priority]
    if priority not in names:
        raise UsageError(
            "No such priority", given=repr(priority), allowed=", ".join(names), hint=nearest(priority, names)
        )
    return Priority(priority)
