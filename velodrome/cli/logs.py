"""``velo logs STUDY [TRIAL]``: what trials printed, also while they run."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import click

from velodrome.cli.options import json_option, split_target, store_option, study_and_trial
from velodrome.cli.output import harmless, note, out, out_json
from velodrome.records import TRIALS_PER_STUDY, ArtifactRow, StudyRow
from velodrome.store.reader import Reader
from velodrome.types import TrialState

_LOOK_EVERY_S = 0.2
_CHUNK_BYTES = 1 << 20


@click.command()
@study_and_trial
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the trial ends.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of each trial.")
@store_option
@json_option
def logs(study: str, trial: str | None, follow: bool, tail: int | None, store: Path, as_json: bool) -> None:
    """Print what a trial printed, or all trials of a study.

    A trial that was started again has a log for each attempt. With the inline executor trials print to the terminal,
    and nothing is kept.
    """
    from velodrome.errors import UsageError

    name, number = split_target(study, trial)
    if follow and (number is None or as_json):
        raise UsageError("Only the log of one trial can be followed, as text", allowed=f"velo logs {name} TRIAL -f",
                         hint=f"velo show {name}  (for the trials that run)")
    with Reader(store) as reader:
        row = reader.study(name)
        if number is not None:
            reader.trial(row.id, number)
        found = _logs_of(reader, row, number)
    if as_json:
        out_json([
            {"trial": _number(log), "attempt": log.attempt, "path": log.path, "start": log.start, "end": log.end,
             "text": _tail(_read(store, log), tail).decode("utf-8", "replace")}
            for log in found
        ])
        return
    if not found and not follow:
        note(f"no output is kept of {name}{'' if number is None else f' trial {number}'}")
    if follow and number is not None:
        _copy(_following(store, row, number, tail))
        return
    several = len({(_number(log), log.attempt) for log in found}) > 1
    for log in found:
        if several:
            out(f"==> trial {_number(log)}, attempt {log.attempt} <==")
        _copy(iter([_tail(_read(store, log), tail)] if tail is not None else _chunks(store, log)))


def _logs_of(reader: Reader, row: StudyRow, number: int | None) -> list[ArtifactRow]:
    """The logs of a trial, or of all trials, in order."""
    first = row.id * TRIALS_PER_STUDY + (number or 0)
    last = first if number is not None else first + TRIALS_PER_STUDY - 1
    _, rows = reader.query(
        "select trial_id, kind, attempt, path, start_byte, end_byte from artifacts "
        "where trial_id between :first and :last and kind = 'log' order by trial_id, attempt, start_byte",
        {"first": first, "last": last},
    )
    return [ArtifactRow(*found) for found in rows]


def _following(
    store: Path, row: StudyRow, number: int, tail: int | None, sleep: Callable[[float], None] = time.sleep
) -> Iterator[bytes]:
    """What the trial has printed, then what it prints, until it has ended."""
    done: dict[tuple[int, str], int] = {}
    while True:
        with Reader(store) as reader:
            ended = TrialState(reader.trial(row.id, number).state).is_finished
            found = _logs_of(reader, row, number)
        for log in found:
            key = (log.attempt, log.path)
            text = _read(store, log, done.get(key, 0))
            yield _tail(text, tail) if key not in done else text
            done[key] = done.get(key, 0) + len(text)
        if ended:
            return
        tail = None
        sleep(_LOOK_EVERY_S)


def _read(store: Path, log: ArtifactRow, skip: int = 0) -> bytes:
    return b"".join(_chunks(store, log, skip))


def _chunks(store: Path, log: ArtifactRow, skip: int = 0) -> Iterator[bytes]:
    """The log's bytes after the first ``skip``; a file that is gone is noted and empty."""
    path = store.parent / log.path
    left = sys.maxsize if log.end < 0 else log.end - log.start - skip
    try:
        with path.open("rb") as file:
            file.seek(log.start + skip)
            while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
    except OSError as error:
        note(f"the log of trial {_number(log)} can't be read: {path}: {error.strerror}")


def _copy(chunks: Iterator[bytes]) -> None:
    """Copies bytes to stdout, as they are but on a terminal, and sees that the last line is ended."""
    stdout = sys.stdout.buffer
    last = b"\n"
    for chunk in _for_terminal(chunks) if sys.stdout.isatty() else chunks:
        stdout.write(chunk)
        stdout.flush()
        last = chunk[-1:] or last
    if last != b"\n":
        stdout.write(b"\n")
        stdout.flush()


def _for_terminal(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes without what would do more to a terminal than colour it and draw a progress bar."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    for chunk in chunks:
        yield harmless(decoder.decode(chunk), moves=True).encode()
    yield harmless(decoder.decode(b"", final=True)).encode()


def _tail(text: bytes, lines: int | None) -> bytes:
    if lines is None:
        return text
    return b"".join(BytesIO(text).readlines()[-lines:]) if lines else b""


def _number(log: ArtifactRow) -> int:
    return log.trial_id % TRIALS_PER_STUDY
