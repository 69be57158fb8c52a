"""A trial as the commands print it: as JSON, as a row of a table, on one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from velodrome.cli.output import out_table, pairs
from velodrome.results import TrialResult
from velodrome.types import Goal, TrialState


def as_data(trial: TrialResult) -> dict[str, Any]:
    """The trial as JSON."""
    return {
        "number": trial.number, "state": str(trial.state), "value": trial.value, "params": trial.params,
        "metrics": trial.metrics, "seed": trial.seed, "attempt": trial.attempt, "duration_s": trial.duration_s,
        "worker": trial.worker, "device": trial.device, "reason": trial.reason,
        "failure": trial.failure.to_json() if trial.failure is not None else None,
    }


def as_line(trial: TrialResult, goal: Goal) -> str:
    """The trial on one line, its values in full: ``7 0.9731481481481481 lr=0.01 width=64``."""
    values = [trial.metrics.get(name) for name in goal.metrics]
    return " ".join([str(trial.number), *map(repr, values), pairs(trial.params)]).rstrip()


def out_trials(trials: Sequence[TrialResult], goal: Goal) -> None:
    """Prints trials as a table: number, state, the goal's metrics, a column per parameter."""
    params = list(dict.fromkeys(name for trial in trials for name in trial.params))
    show_state = any(trial.state is not TrialState.COMPLETED for trial in trials)
    columns = ["trial", *(["state"] if show_state else []), *goal.metrics, *params]
    rows = [
        [
            trial.number, *([str(trial.state)] if show_state else []),
            *(trial.metrics.get(name) for name in goal.metrics), *(trial.params.get(name) for name in params),
        ]
        for trial in trials
    ]
    out_table(columns, rows)
