"""``velo resume STUDY``: goes on where a study's log ends."""

from __future__ import annotations

import time
from pathlib import Path

import click

from velodrome.cli.failures import store_hint
from velodrome.cli.options import fuse_option, hung_option, json_option, run_options, store_option, study_argument
from velodrome.cli.output import note, prints_to_stderr
from velodrome.cli.summary import conclude


@click.command()
@study_argument
@click.option("--trials", type=click.IntRange(1), metavar="N",
              help="A new number of finished trials to reach.  [default: as before]")
@click.option("--objective", metavar="FILE[:NAME]", help="Where the objective is now, if it has moved.")
@click.option("--take-over", is_flag=True, help="Take it from a controller on another host that you know is gone.")
@fuse_option
@hung_option
@run_options
@store_option
@json_option
@click.pass_context
def resume(
    ctx: click.Context, /, study: str, trials: int | None, objective: str | None, take_over: bool, store: Path,
    as_json: bool, executor: str | None, address: str | None, workers: int | None, timeout: float | None, quiet: bool,
    fuse: str | None, hung_after_s: float | None,
) -> None:
    """Go on with a study that was stopped, killed or finished.

    Nothing is lost and nothing is done twice: trials that had no end are started again. A finished study goes on where
    --trials asks for more.
    """
    from velodrome import api

    found = api.load_study(study, store=store)
    if found.state == "finished" and (trials is None or trials <= found.row.trials):
        more = f"velo resume {study}{store_hint(ctx)} --trials {2 * found.row.trials}"
        note(f"{study} is finished; for more trials: {more}")
        conclude(ctx, found, None, as_json=as_json)
    else:
        started_at = time.monotonic()
        with prints_to_stderr():
            found = api.resume(
                study, objective, trials=trials, store=store, executor=executor, address=address, workers=workers,
                timeout_s=timeout, fuse=fuse, hung_after_s=hung_after_s, take_over=take_over, progress=not quiet,
            )
        conclude(ctx, found, time.monotonic() - started_at, as_json=as_json)
