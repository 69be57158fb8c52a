"""``velo best STUDY``: the best trial, or the Pareto front where there are several goals."""

from __future__ import annotations

from pathlib import Path

import click

from velodrome.cli.options import json_option, store_option, study_argument
from velodrome.cli.output import note, out_fields, out_heading, out_json
from velodrome.cli.trials import as_data, out_trials
from velodrome.errors import NotFoundError
from velodrome.results import TrialResult
from velodrome.store.reader import Reader
from velodrome.types import Goal


@click.command()
@study_argument
@store_option
@json_option
def best(study: str, store: Path, as_json: bool) -> None:
    """Show the best trial of a study.

    With several goals: all trials that no other beats in every goal (the Pareto front).
    """
    with Reader(store) as reader:
        row = reader.study(study)
        goal = Goal.parse(row.goal)
        found = [TrialResult.of(trial, reader.params(trial.id)) for trial in reader.best(row.id, 1)]
    if not found:
        raise NotFoundError(f"Study {study!r} has no completed trial yet", hint=f"velo why {study}")
    if goal.is_single:
        _show(study, goal, found[0], as_json=as_json)
        return
    from velodrome.api import load_study

    loaded = load_study(study, store=store)
    front, volume = loaded.front, loaded.hypervolume()
    if as_json:
        data = {"study": study, "goal": str(goal), "front": [as_data(trial) for trial in front], "hypervolume": volume}
        out_json(data)
        return
    out_trials(front, goal)
    note(f"hypervolume: {volume:.6g}, measured from the worst completed trial in each goal")


def _show(study: str, goal: Goal, trial: TrialResult, *, as_json: bool) -> None:
    if as_json:
        out_json({"study": study, "goal": str(goal), **as_data(trial)})
        return
    out_fields([("study", study), ("trial", trial.number), (goal.metric, repr(trial.value)), ("goal", str(goal))])
    if trial.params:
        out_heading("parameters")
        out_fields((f"  {name}", repr(value)) for name, value in trial.params.items())
