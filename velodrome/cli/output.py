"""What the commands print: data on stdout, all else on stderr; plain text wherever there is no terminal."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

import click

_GAP = "  "
_MIN_WIDTH = 12
"""No column is cut to fewer characters than this."""
_COLOURS = re.compile(r"(\x1b\[[0-9;]*m)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MOVES = re.compile(r"(\x1b\[[0-9;]*[mAK]|[\r\b])|[\x00-\x07\x0b-\x1f\x7f-\x9f]")
"""What stays, in a group, or a control character."""


def out(text: str, *, end: bool = True) -> None:
    """Prints data on stdout, a line or a part of one: as it is, but on a terminal ``harmless``."""
    click.echo(harmless(text) if sys.stdout.isatty() else text, color=True, nl=end)


def note(text: str) -> None:
    """Prints anything else: a line on stderr."""
    click.echo(harmless(text) if sys.stderr.isatty() else text, err=True)


def harmless(text: str, *, moves: bool = False) -> str:
    """The text for a terminal: colours stay, any other command to it is written out.

    Args:
        text: What a trial may have had a hand in.
        moves: Whether a progress bar's moves stay too: to the start of the line, back, up, and clearing the line.
    """
    return (_MOVES if moves else _COLOURS).sub(lambda found: found[1] or repr(found[0])[1:-1], text)


def prepare_streams() -> None:
    """Makes sure that printing never fails for what is printed: a closed stream swallows, a narrow encoding escapes."""
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def prints_to_stderr() -> AbstractContextManager[object]:
    """While it lasts, what an inline objective prints goes to stderr, so that stdout holds data alone.

    On a terminal nothing is changed: both are the same screen, and a debugger wants the real stdout.
    """
    return nullcontext() if sys.stdout.isatty() else redirect_stdout(sys.stderr)


def style(text: str, stream: TextIO, **styles: Any) -> str:
    """The text in colour where the stream is a terminal that wants it (``NO_COLOR``, ``TERM=dumb``), else as it is."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain else click.style(text, **styles)


def out_json(value: Any) -> None:
    """Prints a value as JSON: NaN as null, infinities as 1e999 and -1e999, which read back as infinities."""
    out(to_json(value))


def to_json(value: Any, indent: int | None = 2) -> str:
    """The value as JSON text, by the same rules as ``out_json``."""
    clean = _finite(value)
    return json.dumps(clean, indent=indent, ensure_ascii=False, default=str).replace(f'"{_HUGE}"', "1e999").replace(
        f'"-{_HUGE}"', "-1e999"
    )


def number(value: float | int | None) -> str:
    """A figure for people: short floats as they are, longer ones to six digits; nothing for None."""
    if value is None:
        return ""
    text = repr(value)
    return f"{value:.6g}" if isinstance(value, float) and len(text) > 8 and abs(value) < 1e6 else text


def cell(value: Any) -> str:
    """A value as text on one line of a table."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return number(value)
        case bytes():
            return f"x'{value.hex()}'"
        case _:
            return printable(str(value))


def printable(text: str) -> str:
    """The text on one line: blanks for line ends and tabs, escapes for what a terminal would take as a command."""
    if text.isprintable():
        return text
    return "".join(
        " " if c in "\r\n\t" else repr(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in text
    )


def pairs(params: Mapping[str, Any]) -> str:
    """Parameters or metrics on one line: ``lr=0.01 width=64``."""
    return " ".join(f"{name}={cell(value)}" for name, value in params.items())


def out_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints aligned columns under their names. On a terminal the widest columns are cut so that rows fit its width."""
    values = [list(row) for row in rows]
    texts = [[cell(value) for value in row] for row in values]
    right = [
        any(row[i] is not None for row in values)
        and all(row[i] is None or isinstance(row[i], int | float) for row in values)
        for i in range(len(columns))
    ]
    widths = [max([_width(name), *(_width(row[i]) for row in texts)]) for i, name in enumerate(columns)]
    if sys.stdout.isatty():
        _narrow(widths, shutil.get_terminal_size().columns)
    out(style(_line(columns, widths, right), sys.stdout, bold=True))
    for row in texts:
        out(_line(row, widths, right))


def out_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Prints names and values, one pair a line, the values aligned; pairs without a value are left out."""
    shown = [(name, cell(value)) for name, value in fields if value is not None and value != ""]
    width = max((_width(name) for name, _ in shown), default=0)
    for name, value in shown:
        out(f"{style(_pad(name, width), sys.stdout, dim=True)}{_GAP}{value}")


def out_heading(text: str) -> None:
    """Prints a heading after an empty line."""
    out("")
    out(style(text, sys.stdout, bold=True))


def _nowhere(mode: str) -> TextIO:
    stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - open to the end, as the one it stands for
    return cast("TextIO", stream)


def _line(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cut = [_cut(text, width) for text, width in zip(texts, widths, strict=True)]
    padded = [_pad(text, width, right=r) for text, width, r in zip(cut, widths, right, strict=True)]
    return _GAP.join(padded).rstrip()


def _narrow(widths: list[int], total: int) -> None:
    """Cuts the widest columns, in place, until the line fits or nothing more can be cut."""
    widths[:] = [min(width, max(total, _MIN_WIDTH)) for width in widths]
    room = total - len(_GAP) * (len(widths) - 1)
    while widths and sum(widths) > room and max(widths) > _MIN_WIDTH:
        widths[widths.index(max(widths))] -= 1


def _width(text: str) -> int:
    """Columns that the text takes on a terminal: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _pad(text: str, width: int, *, right: bool = False) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


_HUGE = "\ue000infinity"


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None if math.isnan(value) else _HUGE if value > 0 else f"-{_HUGE}"
        case bytes():
            return f"x'{value.hex()}'"
        case Mapping():
            return {str(key): _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value
