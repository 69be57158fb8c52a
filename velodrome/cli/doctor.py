"""``velo doctor``: what velodrome finds on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from velodrome.cli.options import json_option, store_option
from velodrome.cli.output import out, out_json, style

_COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}


@click.command()
@store_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, /, store: Path, as_json: bool) -> None:
    """Check this machine and the store.

    Exits with 1 where something is bad; a warning can be lived with.
    """
    from velodrome.doctor import Status, checks

    found = checks(store)
    if as_json:
        out_json([{"name": c.name, "status": str(c.status), "detail": c.detail, "advice": c.advice} for c in found])
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            status = style(f"{check.status:4}", sys.stdout, fg=_COLOURS[check.status])
            out(f"{status}  {check.name:{width}}  {check.detail}")
            if check.advice:
                out(f"{'':{width + 6}}  {check.advice}")
    if any(check.status is Status.BAD for check in found):
        ctx.exit(1)
