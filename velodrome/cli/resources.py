"""``velo resources``: the machine, who holds what of it, and who waits for what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from velodrome.cli.options import json_option
from velodrome.cli.output import note, out, out_heading, out_json, out_table
from velodrome.cli.studies import age

if TYPE_CHECKING:
    from velodrome.resources.overview import Device, Overview


@click.command()
@json_option
def resources(as_json: bool) -> None:
    """Show this machine: what is free, who holds what, who waits and why.

    Studies of all who use the same ledger are shown: your own by default, everybody's where VELODROME_LEDGER or a
    configuration file names a common one.
    """
    from velodrome.resources.inventory import Inventory
    from velodrome.resources.ledger_place import find
    from velodrome.resources.overview import look

    now = time.time()
    inventory = Inventory.detect()
    overview = look(find(), inventory, now)
    if as_json:
        out_json(_as_json(overview))
        return
    for remark in inventory.notes:
        note(remark)
    note(f"ledger: {overview.place.path}" if overview.place is not None else "sharing is off: VELODROME_LEDGER=off")
    out_table(("resource", "free", "held", "total"), [
        (d.name, _amount(d, d.total - d.held), _amount(d, d.held), _amount(d, d.total)) for d in overview.devices
    ])
    _show_studies(overview, now)
    if overview.tenants:
        out_heading("tenants")
        out_table(("tenant", "weight", "guarantee", "max", "holds", "due", "used lately"), [
            (
                view.tenant.name, f"{view.tenant.weight:g}", f"{view.tenant.guarantee:.0%}", f"{view.tenant.max:.0%}",
                f"{view.share:.0%}", f"{view.due:.0%}" if view.due else "", f"{view.tenant.usage:.0f} s",
            )
            for view in overview.tenants
        ])


def _show_studies(overview: Overview, now: float) -> None:
    if not overview.studies:
        note("no study runs here")
        return
    out_heading("studies")
    out_table(("tenant", "study", "priority", "slots", "each", "since", "process"), [
        (
            view.sharer.tenant, view.sharer.name, str(view.sharer.priority), f"{view.slots} of {view.sharer.wanted}",
            str(view.sharer.demand), age(now - (view.held_since or view.sharer.since)), view.pid,
        )
        for view in overview.studies
    ])
    queue = [view for view in overview.studies if view.waiting]
    if queue:
        out_heading("queue")
        for view in queue:
            out(f"{view.sharer}: {view.waiting}")


def _amount(device: Device, amount: int) -> str:
    from velodrome.resources.request import format_bytes

    match device.unit:
        case "bytes":
            return format_bytes(max(0, amount))
        case "millis":
            return f"{amount / 1000:g}"
        case _:
            return str(amount)


def _as_json(overview: Overview) -> dict[str, Any]:
    rules = overview.settings.rules
    return {
        "ledger": str(overview.place.path) if overview.place is not None else None,
        "devices": [{"name": d.name, "total": d.total, "held": d.held, "unit": d.unit} for d in overview.devices],
        "studies": [
            {
                "tenant": v.sharer.tenant, "study": v.sharer.name, "priority": str(v.sharer.priority), "pid": v.pid,
                "slots": v.slots, "wanted": v.sharer.wanted, "asked_back": v.asked_back, "each": str(v.sharer.demand),
                "since": v.held_since, "share": v.share, "waiting": v.waiting or None,
            }
            for v in overview.studies
        ],
        "tenants": [
            {
                "tenant": v.tenant.name, "weight": v.tenant.weight, "guarantee": v.tenant.guarantee,
                "max": v.tenant.max, "share": v.share, "due": v.due, "usage_s": v.tenant.usage,
            }
            for v in overview.tenants
        ],
        "rules": {"half_life_s": rules.half_life_s, "quantum_s": rules.quantum_s, "grace_s": rules.grace_s},
    }
