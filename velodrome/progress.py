"""The progress line: how far a study is, on stderr; redrawn in place on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from velodrome.trials.manager import Progress

_EVERY_S = 10.0
"""How often a line is written where nothing can be redrawn."""


class ProgressLine:
    """Shows each ``Progress`` it is called with. Where nobody can be shown anything any more, it keeps quiet.

    Args:
        out: Where to write; ``sys.stderr`` by default.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._redraws = self._out.isatty()
        self._next_at = time.monotonic() + _EVERY_S
        self._drawn = self._has_remarked = False
        self._clear = "\r\x1b[K" if self._redraws else ""
        self._told = ""

    def __call__(self, progress: Progress) -> None:
        """Shows it, unless it is too soon for another line."""
        if progress.remark and not self._has_remarked:
            self._has_remarked, self._drawn = True, False
            self._write(f"{self._clear}note: {progress.remark}\n")
        self._show(render(progress))

    def tell(self, text: str) -> None:
        """Shows something else, at once where it is new."""
        if text != self._told and not self._redraws:
            self._next_at = time.monotonic()
        self._told = text
        self._show(text)

    def _show(self, text: str) -> None:
        if self._redraws:
            width = shutil.get_terminal_size().columns - 1
            self._drawn = True
            self._write(f"{self._clear}{text[:width]}")
        elif time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _EVERY_S
            self._write(text + "\n")

    def close(self) -> None:
        """Ends the line that was redrawn."""
        if self._drawn:
            self._drawn = False
            self._write("\n")

    def _write(self, text: str) -> None:
        """A terminal that is gone, or a pipe that nobody reads, must not end the study."""
        with suppress(OSError, ValueError):
            self._out.write(text)
            self._out.flush()


def render(progress: Progress) -> str:
    """The line as text.

    ``digits  12/40 done, 2 running, 5 pruned, 1 failed | best accuracy 0.9731 (trial 7) | 1.4 trials/s | 20 s left``
    """
    p = progress
    counts = [f"{p.finished}/{p.target} done", f"{p.running} running"]
    others = (p.paused, "paused"), (p.pruned, "pruned"), (p.failed, "failed")
    counts += [f"{count} {word}" for count, word in others if count]
    parts = [f"{p.study}  " + ", ".join(counts)]
    if p.last_report is not None:
        step, value = p.last_report
        parts.append(f"step {step:,}" + ("" if value is None else f", {p.metric} {value:.6g}"))
    if p.best is not None:
        parts.append(f"best {p.metric} {p.best[1]:.6g} (trial {p.best[0]})")
    if p.target > 1:
        parts.append(f"{p.trials_per_s:.3g} trials/s")
    if p.left_s is not None and p.finished < p.target:
        parts.append(f"{duration(p.left_s)} left")
    if p.note:
        parts.append(p.note)
    return " | ".join(parts)


def duration(seconds: float) -> str:
    """A duration for people: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def say(text: str) -> None:
    """Prints a sentence for the user to stderr, as far as there is one."""
    with suppress(OSError, ValueError):
        print(f"velodrome: {text}", file=sys.stderr, flush=True)
