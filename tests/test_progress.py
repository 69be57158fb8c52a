"""The progress line: what it says, and that it never gets in the way."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from velodrome.progress import ProgressLine, duration, render
from velodrome.trials.manager import Progress

PROGRESS = Progress("digits", 40, 12, 2, 5, 1, "accuracy", (7, 0.97314815), 1.42, 19.7)


class Gone(io.StringIO):
    """A terminal that somebody closed."""

    def isatty(self) -> bool:
        return True

    def write(self, _text: str) -> int:
        raise OSError(5, "Input/output error")


def test_the_line() -> None:
    counts = "12/40 done, 2 running, 5 pruned, 1 failed"
    assert render(PROGRESS) == (
        f"digits  {counts} | best accuracy 0.973148 (trial 7) | 1.42 trials/s | 20 s left"
    )


def test_a_study_of_one_trial_shows_how_far_that_one_is() -> None:
    run = replace(PROGRESS, target=1, finished=0, best=None, last_report=(51_200, 312.4))
    assert " | step 51,200, accuracy 312.4 | " in render(run)
    assert "trials/s" not in render(run)


def test_a_terminal_that_is_gone_does_not_end_the_study() -> None:
    line = ProgressLine(Gone())
    line(PROGRESS)
    line.close()


def test_off_a_terminal_nothing_is_redrawn() -> None:
    out = io.StringIO()
    line = ProgressLine(out)
    line(PROGRESS)
    line.close()
    assert out.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(8.2, "8 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
