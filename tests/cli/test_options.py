"""Values of options: times, and trials named in two ways."""

from __future__ import annotations

import pytest

from velodrome.cli.options import parse_duration, split_target
from velodrome.errors import UsageError


@pytest.mark.parametrize(("text", "seconds"), [
    ("90", 90), ("90s", 90), ("0.5s", 0.5), ("10m", 600), ("10min", 600), ("2h", 7200), ("1d", 86400),
    ("1h30m", 5400), ("1h 30m", 5400), (" 2H ", 7200),
])
def test_times(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "5x", "1h30", "-5", "0", "0s", "1e3", "10 m x", "m", "1..5s", "nan"])
def test_texts_that_are_no_time(text):
    with pytest.raises(UsageError, match="allowed: 90, 90s, 10m, 2h"):
        parse_duration(text)


@pytest.mark.parametrize(("study", "trial", "expected"), [
    ("digits", None, ("digits", None)), ("digits", "3", ("digits", 3)), ("digits/3", None, ("digits", 3)),
])
def test_a_study_or_one_of_its_trials(study, trial, expected):
    assert split_target(study, trial) == expected


@pytest.mark.parametrize(("study", "trial"), [
    ("digits", "x"), ("digits/", None), ("digits", "-1"), ("digits", "²"), ("digits/1", "1"),
])
def test_what_is_no_trial(study, trial):
    with pytest.raises(UsageError):
        split_target(study, trial)
