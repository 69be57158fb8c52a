"""``velo stop STUDY``: asks the process that runs a study to end it in order, and waits until it has."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click

from velodrome.cli.failures import store_hint
from velodrome.cli.options import duration_option, store_option, study_argument
from velodrome.cli.output import note
from velodrome.cli.studies import num_finished
from velodrome.errors import StudyBusyError
from velodrome.owner import Owner

_LOOK_EVERY_S = 0.05


@click.command()
@study_argument
@duration_option("--wait", default="30s", show_default=True, help="How long to wait for it.")
@store_option
@click.pass_context
def stop(ctx: click.Context, /, study: str, wait: float, store: Path) -> None:
    """Stop a running study in order; nothing is lost.

    velo resume goes on with it. A study that does not run is left as it is. If the process does not end in time, a
    second stop ends it at once.
    """
    from velodrome.store.reader import Reader
    from velodrome.why import owner_of, state_of

    with Reader(store) as reader:
        row = reader.study(study)
    owner = owner_of(row)
    again = f"go on with: velo resume {study}{store_hint(ctx)}"
    if owner is None or row.state != "running":
        note(f"{study} is not running: it is {row.state}{f' ({row.note})' if row.note else ''}")
        return
    if owner.is_here and not owner.is_alive:
        note(f"{study} is not running: its process {owner.pid} is gone; {again}")
        return
    end(owner, study, wait)
    with Reader(store) as reader:
        row = reader.study(study)
        counts = reader.counts(row.id)
    note(f"{study} is {state_of(row)} after {num_finished(counts)} of {row.trials} trials; {again}")


def end(owner: Owner, study: str, wait_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Sends SIGTERM to the process, which was found alive just now, and waits until it is gone.

    Raises:
        StudyBusyError: If it is on another host, belongs to somebody else, or does not end in time.
    """
    where = f"process {owner.pid} on {owner.host}"
    if not owner.is_here:
        raise StudyBusyError(
            f"Study {study!r} runs on another host", given=where, hint=f"on {owner.host}: velo stop {study}"
        )
    try:
        os.kill(owner.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise StudyBusyError(
            f"Study {study!r} is run by another user", given=where, hint="ask them, or use sudo"
        ) from None
    for _ in range(math.ceil(wait_s / _LOOK_EVERY_S)):
        if not owner.is_alive:
            return
        sleep(_LOOK_EVERY_S)
    if owner.is_alive:
        raise StudyBusyError(
            f"Study {study!r} was told to stop and still runs after {wait_s:g} s", given=where,
            hint=f"velo stop {study} once more: that ends it at once, and velo resume still works",
        )
