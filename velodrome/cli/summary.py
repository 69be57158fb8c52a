"""The end of a sweep: a short summary and what to type next on stderr, the best trial on stdout."""

from __future__ import annotations

import click

from velodrome.cli.failures import store_hint
from velodrome.cli.output import note, number, out, out_json
from velodrome.cli.studies import num_finished, seconds
from velodrome.cli.trials import as_data, as_line
from velodrome.results import TrialResult
from velodrome.store.reader import Reader
from velodrome.study import Study
from velodrome.types import TrialState


def conclude(ctx: click.Context, study: Study, elapsed_s: float | None, *, as_json: bool) -> None:
    """Prints how a study stands; exits with 1 where not one trial has completed.

    Args:
        ctx: The command.
        study: The study.
        elapsed_s: How long it was run just now; None where there was nothing to run.
        as_json: Print JSON on stdout, and not the best trial's line.
    """
    row = study.row
    with Reader(study.store) as reader:
        counts = reader.counts(row.id)
    best = study.top(1) if study.goal.is_single else study.front
    finished = num_finished(counts)
    parts = [f"{counts[s]} {s}" for s in TrialState if counts.get(s)]
    took = "" if elapsed_s is None else f" in {seconds(elapsed_s)}"
    note(f"{row.name}: {finished} of {row.trials} trials{took}: {', '.join(parts) or 'none'}")
    if row.note:
        note(f"{row.state}: {row.note}")
    _tell_best(study, best)
    _tell_next(ctx, study, completed=bool(best), failed=counts.get("failed", 0), left=finished < row.trials)
    if as_json:
        out_json({
            "study": row.name, "state": row.state, "goal": row.goal, "target": row.trials, "counts": counts,
            "elapsed_s": elapsed_s, "best": [as_data(trial) for trial in best],
        })
    else:
        for trial in best:
            out(as_line(trial, study.goal))
    if not best:
        ctx.exit(1)


def _tell_best(study: Study, best: list[TrialResult]) -> None:
    if not best:
        note("no trial has completed")
    elif study.goal.is_single:
        note(f"best: trial {best[0].number}, {study.goal.metric} {number(best[0].value)}")
    else:
        note(f"best: {len(best)} trials that no other beats in every goal")


def _tell_next(ctx: click.Context, study: Study, *, completed: bool, failed: int, left: bool) -> None:
    """What to type now."""
    name, store = study.name, store_hint(ctx)
    commands = []
    if failed:
        commands.append((f"velo why {name}{store}", f"why {failed} failed"))
    if left and study.state != "finished":
        commands.append((f"velo resume {name}{store}", "go on"))
    if completed:
        commands.append((f"velo best {name}{store}", "the best parameters"))
        commands.append((f'velo query "select * from leaderboard limit 10"{store}', "any question"))
    width = max((len(command) for command, _ in commands), default=0)
    for command, what in commands:
        note(f"  {command:{width}}  {what}")
