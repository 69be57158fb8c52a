"""``velo query SQL``: any question to the store, which it can only read."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from velodrome.cli.options import json_option, store_option
from velodrome.cli.output import cell, note, out, out_table, to_json


@click.command()
@click.argument("sql")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV; a missing value is empty.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Print only the first N rows.")
@store_option
@json_option
def query(sql: str, as_csv: bool, limit: int | None, store: Path, as_json: bool) -> None:
    """Ask the store a question in SQL; it can only read.

    `-` reads the question from stdin. The tables are studies, trials, params, metrics, events, decisions and artifacts;
    the view leaderboard has the finished trials, best first, and each study has a view of its own, study_NAME. On a
    terminal wide columns are cut; a pipe, --csv and --json get everything.
    """
    from velodrome.errors import UsageError
    from velodrome.store.reader import Reader

    if as_csv and as_json:
        raise UsageError("Two forms are asked for", given="--csv --json", allowed="one of them")
    text = sys.stdin.read() if sql == "-" else sql
    with Reader(store) as reader:
        columns, found = reader.query(text)
        rows: Iterator[Sequence[Any]] = islice(found, limit)
        if as_json:
            _out_json(distinct(columns), rows)
        elif as_csv:
            _out_csv(columns, rows)
        else:
            _out_rows(columns, rows)


def distinct(names: Sequence[str]) -> list[str]:
    """The names with the later ones of equal names numbered: ``a, a`` becomes ``a, a_2``."""
    taken: list[str] = []
    for name in names:
        count, free = 1, name
        while free in taken:
            count += 1
            free = f"{name}_{count}"
        taken.append(free)
    return taken


def _out_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    shown = list(rows)
    out_table(columns, shown)
    if sys.stdout.isatty():
        note(f"{len(shown)} row{'' if len(shown) == 1 else 's'}")


def _out_json(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a JSON array of objects, one row a line, as the rows come."""
    before = "["
    for row in rows:
        out(f"{before}\n {to_json(dict(zip(columns, row, strict=True)), indent=None)}", end=False)
        before = ","
    out("[]" if before == "[" else "\n]")


def _out_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(cell(value) if isinstance(value, bytes) else value for value in row)
        if buffer.tell() > 1 << 16:
            out(buffer.getvalue(), end=False)
            buffer.seek(0)
            buffer.truncate()
    out(buffer.getvalue(), end=False)
