"""Which trials hang: by a limit that is given, or one that is learnt."""

from __future__ import annotations

from velodrome.trials.pace import Pace


def looks(pace: Pace, start: float, end: float) -> list[tuple[float, int]]:
    """Looks every second; when each overdue trial was seen first."""
    found: dict[int, float] = {}
    now = start
    while now <= end:
        for number, _ in pace.overdue(now):
            found.setdefault(number, now)
        now += 1.0
    return [(at, number) for number, at in found.items()]


def a_trial(pace: Pace, number: int, gaps: list[float], now: float = 0.0) -> float:
    """A trial with these gaps between its signs of life, the last of them before its end."""
    pace.started(number, now)
    for gap in gaps[:-1]:
        now += gap
        pace.heard(number, now)
    pace.ended(number, now + gaps[-1], by_itself=True)
    return now + gaps[-1]


def test_a_given_limit_counts_from_the_start_and_from_each_sign_of_life() -> None:
    pace = Pace(10.0)
    pace.started(0, 0.0)
    pace.started(1, 0.0)
    pace.heard(1, 5.0)
    assert looks(pace, 0.0, 20.0) == [(11.0, 0), (16.0, 1)]
    [(_, message), _] = pace.overdue(20.0)
    assert message == "nothing was heard of it for 20 s; the limit is 10 s, as given"


def test_a_trial_that_has_ended_does_not_hang() -> None:
    pace = Pace(10.0)
    pace.started(0, 0.0)
    pace.ended(0, 1.0, by_itself=False)
    pace.heard(0, 2.0)
    assert looks(pace, 0.0, 30.0) == []


def test_nothing_is_learnt_before_three_trials_have_ended() -> None:
    pace = Pace()
    for number in range(2):
        a_trial(pace, number, [0.1] * 10)
    pace.started(2, 0.0)
    assert looks(pace, 0.0, 1000.0) == []


def test_the_limit_that_is_learnt_is_five_minutes_at_least() -> None:
    pace = Pace()
    for number in range(3):
        a_trial(pace, number, [0.1] * 10)
    pace.started(3, 0.0)
    assert looks(pace, 0.0, 400.0) == [(301.0, 3)]
    [(_, message)] = pace.overdue(401.0)
    assert message == ("nothing was heard of it for 401 s; the limit is 300 s, learnt from 3 trials, "
                       "which were silent for 0.1 s as a rule and 0.1 s at most")


def test_the_limit_goes_by_the_usual_gap_and_by_the_longest() -> None:
    slow, long_end = Pace(), Pace()
    for number in range(3):
        a_trial(slow, number, [20.0] * 10)
        a_trial(long_end, number, [0.1] * 50 + [90.0])
    for pace, limit_s in ((slow, 400.0), (long_end, 450.0)):
        pace.started(3, 0.0)
        assert looks(pace, 0.0, 600.0) == [(limit_s + 1.0, 3)]


def test_a_trial_that_is_slow_itself_has_more_time() -> None:
    pace = Pace()
    for number in range(3):
        a_trial(pace, number, [0.1] * 10)
    pace.started(3, 0.0)
    pace.heard(3, 60.0)
    assert looks(pace, 60.0, 1000.0) == [(661.0, 3)]


def test_trials_that_were_killed_teach_nothing() -> None:
    pace = Pace()
    for number in range(5):
        pace.started(number, 0.0)
        pace.ended(number, 1.0, by_itself=False)
    pace.started(5, 0.0)
    assert looks(pace, 0.0, 1000.0) == []


def test_a_process_that_stood_still_blames_no_trial() -> None:
    """Ctrl-Z, a laptop that slept: nobody looked, so nobody knows what was said meanwhile."""
    pace = Pace(10.0)
    pace.started(0, 0.0)
    assert looks(pace, 0.0, 5.0) == []
    assert pace.overdue(5000.0) == []
    assert looks(pace, 5001.0, 5020.0) == [(5006.0, 0)]
