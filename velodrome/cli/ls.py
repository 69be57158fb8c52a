"""``velo ls``: the studies in the store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from velodrome.cli.options import json_option, store_option
from velodrome.cli.output import note, out_json, out_table
from velodrome.cli.studies import age, best_value, num_finished


@click.command()
@store_option
@json_option
def ls(store: Path, as_json: bool) -> None:
    """List the studies in the store, the newest first.

    A study whose process is gone without a word is shown as `died`: velo resume goes on with it.
    """
    from velodrome.store.reader import Reader
    from velodrome.why import state_of

    with Reader(store) as reader:
        rows = sorted(reader.studies(), key=lambda row: row.created_at, reverse=True)
        all_counts = reader.all_counts()
        studies: list[dict[str, Any]] = [
            {
                "name": row.name, "state": state_of(row), "finished": num_finished(counts), "target": row.trials,
                "best": best_value(reader, row), "goal": row.goal, "created_at": row.created_at, "counts": counts,
                "note": row.note,
            }
            for row in rows
            for counts in [all_counts.get(row.id, {})]
        ]
    if as_json:
        out_json(studies)
        return
    if not studies:
        note(f"no studies in {store}")
        return
    now = time.time()
    out_table(
        ("study", "state", "trials", "best", "goal", "age"),
        [
            (
                s["name"], s["state"], f"{s['finished']}/{s['target'] or '-'}", s["best"], s["goal"],
                age(now - s["created_at"]),
            )
            for s in studies
        ],
    )
