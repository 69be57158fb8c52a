"""Options and arguments that several commands share, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from velodrome.cli.failures import STORE_GIVEN
from velodrome.errors import UsageError, VeloError
from velodrome.location import store_path
from velodrome.options import EXECUTORS

EXECUTORS_HELP = ("process (worker processes), inline (this one: for the debugger) or ray (a Ray cluster).  "
                  "[default: process; of a resumed study, its own]")

_F = TypeVar("_F", bound=Callable[..., Any])
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds from a text; ``90``, ``90s``, ``10m``, ``2h``, ``1d``, or a sum such as ``1h30m``.

    >>> parse_duration("1h30m")
    5400.0

    Raises:
        UsageError: If it is no time, or none at all.
    """
    allowed = "90, 90s, 10m, 2h, 1d, 1h30m"
    compact = re.sub(r"\s+", "", text.lower())
    parts = re.findall(r"(\d+(?:\.\d+)?)([a-z]*)", compact)
    known = all(unit in _UNITS_S and (unit or len(parts) == 1) for _, unit in parts)
    if not parts or not known or "".join(amount + unit for amount, unit in parts) != compact:
        raise UsageError("A time is not understood", given=repr(text), allowed=allowed)
    seconds = sum(float(amount) * _UNITS_S[unit] for amount, unit in parts)
    if seconds <= 0:
        raise UsageError("A time must be more than nothing", given=repr(text), allowed=allowed)
    return seconds


def duration_option(*names: str, **settings: Any) -> Callable[[_F], _F]:
    """An option whose value is a time; the command gets seconds."""

    def take(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
        return None if value is None else parse_duration(value)

    return click.option(*names, callback=take, metavar="T", **settings)


def complete_studies(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For the shell: the studies whose names begin so; none where the store can't be read."""
    from velodrome.store.reader import Reader

    with suppress(VeloError), Reader(ctx.params.get("store") or store_path()) as reader:
        rows = [row for row in reader.studies() if row.name.startswith(incomplete)]
        return [CompletionItem(row.name, help=row.state) for row in rows]
    return []


def complete_words(*words: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """For the shell: those of the words that begin so."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]

    return complete


def store_option(function: _F) -> _F:
    """``--store PATH``; the command gets an absolute ``Path``."""
    return click.option(
        "--store", metavar="PATH", callback=_take_store, is_eager=True,
        help="The results store.  [default: $VELODROME_STORE, else velodrome.db]",
    )(function)


def json_option(function: _F) -> _F:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def address_option(function: _F) -> _F:
    """``--address``."""
    return click.option(
        "--address", shell_complete=complete_words("auto"), metavar="A",
        help="With --executor ray: the cluster to join, auto or HOST:PORT.  [default: a Ray of our own, here]",
    )(function)


def run_options(function: _F) -> _F:
    """The options of every command that runs trials."""
    options = (
        click.option("--executor", shell_complete=complete_words(*EXECUTORS), metavar="E", help=EXECUTORS_HELP),
        address_option,
        click.option("--workers", type=int, metavar="N", help="Trials at once.  [default: as many as fit]"),
        duration_option("--timeout", help="Stop after 90, 90s, 10m or 2h; resume goes on."),
        click.option("-q", "--quiet", is_flag=True, help="No progress line."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def fuse_option(function: _F) -> _F:
    """``--fuse F``."""
    return click.option(
        "--fuse", shell_complete=complete_words("auto", "off"), metavar="F",
        help="Of a training job: how many trials each worker trains as one model, or off.  [default: auto, as a short "
             "measurement says]",
    )(function)


def priority_option(function: _F) -> _F:
    """``--priority P``."""
    names = "guaranteed", "normal", "opportunistic"
    return click.option(
        "--priority", shell_complete=complete_words(*names), default="normal", show_default=True, metavar="P",
        help="How the study stands to others on this machine: guaranteed (as far as its tenant is), normal, or "
             "opportunistic (it takes only what nobody else wants).",
    )(function)


def hung_option(function: _F) -> _F:
    """``--hung-after T``; the command gets seconds as ``hung_after_s``."""
    return duration_option(
        "--hung-after", "hung_after_s",
        help="A trial that gives no sign of life for so long is started again.  [default: learnt from the trials]",
    )(function)


def study_argument(function: _F) -> _F:
    """``STUDY``."""
    return click.argument("study", shell_complete=complete_studies)(function)


def study_and_trial(function: _F) -> _F:
    """``STUDY [TRIAL]``, also written ``STUDY/TRIAL``; see ``split_target``."""
    return click.argument("study", shell_complete=complete_studies)(click.argument("trial", required=False)(function))


def split_target(study: str, trial: str | None) -> tuple[str, int | None]:
    """Name and trial number from ``STUDY TRIAL`` or ``STUDY/TRIAL``.

    Raises:
        UsageError: If the trial is no number.
    """
    name, slash, after = study.partition("/")
    text = after if trial is None and slash else trial
    if slash and trial is not None:
        raise UsageError("The trial is given twice", given=f"{study} {trial}", allowed="STUDY TRIAL or STUDY/TRIAL")
    if text is None:
        return name, None
    if not (text.isascii() and text.isdigit()):
        raise UsageError("A trial is named by its number", given=repr(text), allowed="a whole number from 0",
                         hint=f"velo show {name}")
    return name, int(text)


def _take_store(ctx: click.Context, _param: click.Parameter, value: str | None) -> Path:
    if value:
        ctx.meta[STORE_GIVEN] = value
    return store_path(value)
