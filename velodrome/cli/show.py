"""``velo show STUDY [TRIAL]``: everything that the store knows of a study, or of a trial."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from velodrome.cli.options import json_option, split_target, store_option, study_and_trial
from velodrome.cli.output import cell, out_fields, out_heading, out_json, out_table
from velodrome.cli.studies import seconds
from velodrome.cli.trials import as_data, out_trials
from velodrome.records import TRIALS_PER_STUDY, StudyRow, trial_id
from velodrome.results import TrialResult
from velodrome.search.domains import Choice, Domain
from velodrome.search.space import Space
from velodrome.store.reader import Reader
from velodrome.types import Goal


@click.command()
@study_and_trial
@click.option("--top", type=click.IntRange(min=0), default=5, show_default=True, metavar="N", help="The best N trials.")
@click.option("--architecture", is_flag=True, help="Draw the net of the trial, or of the best one.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Draw it into a file.")
@click.option("--python", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write it as a Python file that needs only torch.")
@store_option
@json_option
def show(
    study: str, trial: str | None, top: int, architecture: bool, svg: Path | None, python: Path | None, store: Path,
    as_json: bool,
) -> None:
    """Show a study, or one of its trials.

    Of a study: its settings, its space, its counts, what velo chose by itself, and its best trials. Of a trial: its
    parameters, metrics, reports, its checkpoints and what was decided about it. With --architecture, --svg or --python:
    its net.
    """
    name, chosen = split_target(study, trial)
    if architecture or svg or python:
        from velodrome.cli.architecture import show_architecture

        show_architecture(name, chosen, store, text=architecture, as_json=as_json, svg=svg, python=python)
        return
    with Reader(store) as reader:
        row = reader.study(name)
        best: list[TrialResult] = []
        if chosen is None:
            best = [TrialResult.of(found, reader.params(found.id)) for found in reader.best(row.id, top)]
        data = _study(reader, row, best) if chosen is None else _trial(reader, row, chosen)
    if as_json:
        out_json(data)
    elif chosen is None:
        _show_study(row, data, best)
    else:
        _show_trial(data)


def _study(reader: Reader, row: StudyRow, best: list[TrialResult]) -> dict[str, Any]:
    from velodrome.why import state_of

    return {
        "name": row.name, "state": state_of(row), "note": row.note, "goal": row.goal, "target": row.trials,
        "counts": reader.counts(row.id), "sampler": row.sampler, "scheduler": row.scheduler, "seed": row.seed,
        "objective": row.objective, "config": json.loads(row.config), "space": json.loads(row.space),
        "checkpoints": _checkpoint_counts(reader, row), "decisions": _study_decisions(reader, row),
        "created_at": row.created_at, "owner_host": row.owner_host, "owner_pid": row.owner_pid or None,
        "top": [as_data(trial) for trial in best],
    }


def _trial(reader: Reader, row: StudyRow, chosen: int) -> dict[str, Any]:
    found, decisions = reader.trial(row.id, chosen), reader.decisions(row.id, chosen)
    _, reports = reader.query(
        "select name, count(*), min(value), max(value), max(step), (select l.value from metrics l "
        "where l.trial_id = m.trial_id and l.name = m.name order by l.step desc limit 1) "
        "from metrics m where trial_id = :trial group by name", {"trial": found.id},
    )
    names = ("name", "reports", "lowest", "highest", "last_step", "last")
    return {
        "study": row.name, "goal": row.goal, **as_data(TrialResult.of(found, reader.params(found.id))),
        "group": next((d.reason for d in reversed(decisions) if (d.by, d.action) == ("fusion", "group")), None),
        "created_at": found.created_at, "started_at": found.started_at, "finished_at": found.finished_at,
        "reports": [dict(zip(names, report, strict=True)) for report in reports],
        "decisions": [
            {"at": d.at, "by": d.by, "action": d.action, "reason": d.reason} for d in decisions
        ],
        "checkpoints": [
            {"step": c.step, "size_bytes": c.size_bytes, "created_at": c.created_at, "path": c.path}
            for c in reader.checkpoints(found.id)
        ],
    }


def _study_decisions(reader: Reader, row: StudyRow) -> list[dict[str, Any]]:
    """What was decided about the study as a whole, by itself: how many workers, where, and why; the same thing once."""
    _, found = reader.query(
        "select max(at) as at, decided_by as by, action, reason from decisions "
        "where study_id = :study and trial_id is null group by decided_by, action, reason order by max(seq), max(id)",
        {"study": row.id},
    )
    return [dict(zip(("at", "by", "action", "reason"), decision, strict=True)) for decision in found]


def _checkpoint_counts(reader: Reader, row: StudyRow) -> dict[str, int]:
    """How many checkpoints a study has, of how many trials, and their size."""
    _, counts = reader.query(
        "select count(*) as n, count(distinct trial_id) as trials, coalesce(sum(size_bytes), 0) as size_bytes "
        "from checkpoints where trial_id >= :first and trial_id < :first + :most",
        {"first": trial_id(row.id, 0), "most": TRIALS_PER_STUDY},
    )
    return dict(zip(("count", "trials", "size_bytes"), next(counts), strict=True))


def _show_study(row: StudyRow, data: dict[str, Any], best: list[TrialResult]) -> None:
    counts = ", ".join(f"{count} {state}" for state, count in data["counts"].items() if count)
    config = {name: value for name, value in data["config"].items() if value not in (None, "", False)}
    out_fields([
        ("study", row.name), ("state", data["state"] + (f": {row.note}" if row.note else "")),
        ("trials", f"{row.trials or 'no number'} asked for; {counts or 'none yet'}"), ("goal", row.goal),
        ("sampler", row.sampler), ("scheduler", row.scheduler), ("seed", str(row.seed)),
        ("objective", row.objective or "(from Python)"), ("created", _time(row.created_at)),
        ("checkpoints", _sentence(data["checkpoints"])),
        ("options", " ".join(f"{name}={cell(value)}" for name, value in config.items())),
    ])
    _show_space(data["space"])
    if data["decisions"]:
        out_heading("decisions")
        out_table(("by", "action", "reason"), [(d["by"], d["action"], d["reason"]) for d in data["decisions"]])
    if best:
        out_heading("best trials")
        out_trials(best, Goal.parse(row.goal))


def _sentence(checkpoints: dict[str, int]) -> str | None:
    count, trials, size_bytes = checkpoints.values()
    return f"{count} of {trials} trial{'s' * (trials > 1)}, {size_bytes:,} bytes" if count else None


def _show_space(space: dict[str, Any]) -> None:
    found = Space.from_json(space)
    if found.domains:
        out_heading("space")
        rows = [[name, _domain(domain), ""] for name, domain in found.domains.items()]
        for row in rows:
            if row[0] in found.conditions:
                parent, options = found.conditions[row[0]]
                row[2] = f"{parent} is {' or '.join(map(repr, options))}"
        out_table(("parameter", "domain", "where"), rows)
    for constraint in space.get("constraints", ()):
        out_fields([("where", constraint)])


def _domain(domain: Domain) -> str:
    """The domain without the parameters inside its options, which have rows of their own."""
    return f"Choice({', '.join(map(repr, domain.options))})" if isinstance(domain, Choice) else repr(domain)


def _show_trial(data: dict[str, Any]) -> None:
    failure = data["failure"]
    out_fields([
        ("study", data["study"]), ("trial", data["number"]), ("state", data["state"]), ("reason", data["reason"]),
        ("failure", f"{failure['kind']}: {failure['message']}" if failure else None),
        ("attempt", data["attempt"]), ("worker", data["worker"]), ("device", data["device"]),
        ("group", data["group"]),
        ("seed", str(data["seed"])),
        ("created", _time(data["created_at"])), ("started", _time(data["started_at"])),
        ("finished", _time(data["finished_at"])),
        ("duration", None if data["duration_s"] is None else seconds(data["duration_s"])),
    ])
    for title, values in (("parameters", data["params"]), ("metrics", data["metrics"])):
        if values:
            out_heading(title)
            out_fields((f"  {name}", repr(value)) for name, value in values.items())
    if data["reports"]:
        out_heading("reports")
        out_table(tuple(data["reports"][0]), [tuple(report.values()) for report in data["reports"]])
    if data["checkpoints"]:
        out_heading("checkpoints")
        out_table(("step", "bytes", "made", "path"), [
            (c["step"], c["size_bytes"], _time(c["created_at"]), c["path"]) for c in data["checkpoints"]
        ])
    if data["decisions"]:
        out_heading("decisions")
        out_table(("by", "action", "reason"), [(d["by"], d["action"], d["reason"]) for d in data["decisions"]])


def _time(at: float | None) -> str | None:
    """A time as people here read it."""
    return None if at is None else datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
