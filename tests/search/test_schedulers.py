from __future__ import annotations

import math
import statistics
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.scheduler_contract import MAX, MIN, SchedulerContract, SomePeers, reports
from velodrome.errors import UsageError
from velodrome.search.asha import ASHA
from velodrome.search.hyperband import Hyperband
from velodrome.search.median import MedianStopping
from velodrome.search.no_scheduler import NoScheduler
from velodrome.search.pbt import PBT
from velodrome.search.scheduler import Scheduler
from velodrome.types import Action, Decision, Direction, Report

GO_ON, STOP, PAUSE, PROMOTE = Action.CONTINUE, Action.STOP, Action.PAUSE, Action.PROMOTE
PEERS = SomePeers()


class TestNone(SchedulerContract):
    def make(self, direction: Direction) -> Scheduler:
        return NoScheduler()


class TestASHA(SchedulerContract):
    def make(self, direction: Direction) -> Scheduler:
        return ASHA(direction, reduction=3)


class TestASHAThatStops(SchedulerContract):
    def make(self, direction: Direction) -> Scheduler:
        return ASHA(direction, reduction=3, type="stop")


class TestASHAWithItsDefaults(SchedulerContract):
    def make(self, direction: Direction) -> Scheduler:
        return ASHA(direction)


class TestHyperband(SchedulerContract):
    def make(self, direction: Direction) -> Scheduler:
        return Hyperband(direction, reduction=2)


class TestHyperbandThatStops(SchedulerContract):
    def make(self, direction: Direction) -> Scheduler:
        return Hyperband(direction, reduction=2, type="stop")


class TestPBT(SchedulerContract):
    def make(self, direction: Direction) -> Scheduler:
        return PBT(direction, interval=3)


class TestMedian(SchedulerContract):
    def make(self, direction: Direction) -> Scheduler:
        return MedianStopping(direction)


STREAMS = st.lists(
    st.builds(Report, st.integers(0, 6), st.integers(0, 30),
              st.sampled_from([0.0, 1.0, 2.0, 3.0, 2.5, math.nan, math.inf, -math.inf]) | st.floats(-4, 4)),
    max_size=60,
)


def test_asha_golden() -> None:
    """Worked by hand: rungs 1, 3, 9; a third of each goes on."""
    asha = ASHA(MAX, min_steps=1, reduction=3, max_steps=27, type="stop")
    said = [asha.decide(Report(*r), PEERS) for r in (
        (0, 1, 0.5), (1, 1, 0.25), (0, 2, 0.75), (2, 1, 0.125), (3, 1, 0.5), (0, 3, 0.8123), (4, 1, 0.75), (5, 1, 0.5),
        (6, 1, math.nan), (0, 28, 0.5),
    )]
    assert said == [
        Decision(GO_ON, "rung 1: 0.5 is number 1 of the 3 that are needed to compare"),
        Decision(GO_ON, "rung 1: 0.25 is number 2 of the 3 that are needed to compare"),
        None,
        Decision(STOP, "rung 1: 0.125 is below the top 1/3 (0.5) of 3"),
        Decision(GO_ON, "rung 1: 0.5 is in the top 1/3 (0.5) of 4"),
        Decision(GO_ON, "rung 3: 0.8123 is number 1 of the 3 that are needed to compare"),
        Decision(GO_ON, "rung 1: 0.75 is in the top 1/3 (0.75) of 5"),
        Decision(GO_ON, "rung 1: 0.5 is in the top 1/3 (0.5) of 6"),
        Decision(STOP, "rung 1: nan is worse than the top 1/3 (0.5) of 7"),
        Decision(GO_ON, "rung 9: 0.5 is number 1 of the 3 that are needed to compare"),
    ]
    low = ASHA(MIN, reduction=2, type="stop")
    first = low.decide(Report(0, 1, 1.0), PEERS)
    assert first == Decision(GO_ON, "rung 1: 1 is number 1 of the 2 that are needed to compare")
    assert low.decide(Report(1, 1, 2.0), PEERS) == Decision(STOP, "rung 1: 2 is above the top 1/2 (1) of 2")


@pytest.mark.parametrize(("options", "rungs"), [
    ({}, [1, 4, 16, 64, 256]), ({"reduction": 3, "min_steps": 2}, [2, 6, 18, 54, 162, 486]),
    ({"reduction": 10}, [1, 10, 100, 1000]), ({"max_steps": 16}, [1, 4]), ({"max_steps": 17}, [1, 4, 16]),
    ({"min_steps": 5, "max_steps": 5}, []),
])
def test_rungs_are_whole_numbers(options: dict[str, int], rungs: list[int]) -> None:
    asha = ASHA(MIN, **options)
    found = [step for step in range(1001) if asha.decide(Report(0, step, 1.0), PEERS) is not None]
    assert found == rungs


def test_rungs_far_up_are_exact() -> None:
    for k in range(33, 40):  # where float logarithms are off by one
        asha = ASHA(MIN, reduction=3)
        assert f"rung {3 ** (k - 1)}:" in str(asha.decide(Report(0, 3**k - 1, 1.0), PEERS))
        assert f"rung {3**k}:" in str(asha.decide(Report(0, 3**k, 1.0), PEERS))


@given(STREAMS, st.sampled_from(list(Direction)), st.integers(1, 3), st.integers(2, 4), st.none() | st.integers(1, 20))
def test_asha_is_what_brute_force_says(
    stream: list[Report], direction: Direction, min_steps: int, reduction: int, max_steps: int | None) -> None:
    asha = ASHA(direction, min_steps=min_steps, reduction=reduction, max_steps=max_steps, type="stop")
    rungs = [min_steps * reduction**k for k in range(10) if max_steps is None or min_steps * reduction**k < max_steps]
    book: dict[tuple[int, int], float] = {}
    stopped: set[int] = set()
    for number, step, value, _ in stream:
        decision = asha.decide(Report(number, step, value), PEERS)
        rung = max((r for r in rungs if r <= step), default=None)
        if number in stopped or rung is None or any(n == number and r >= rung for n, r in book):
            assert decision is None
            continue
        score = direction.score(value) if math.isfinite(value) else math.inf
        book[number, rung] = score
        scores = sorted(s for (_, r), s in book.items() if r == rung)
        stop = len(scores) >= reduction and score not in scores[: len(scores) // reduction]
        assert decision is not None
        assert decision.stop == stop
        if stop:
            stopped.add(number)


def test_median_golden() -> None:
    """Worked by hand: trial 3's best, 3, against the median of the peers' averages up to step 2: 1.5, 2, 3.5."""
    rule = MedianStopping(MIN, min_trials=3)
    for number, (first, second) in enumerate(((1.0, 2.0), (2.0, 2.0), (3.0, 4.0))):
        assert rule.decide(Report(number, 1, first), PEERS) is None
        assert rule.decide(Report(number, 2, second), PEERS) is None
    assert rule.decide(Report(3, 2, 3.0), PEERS) == Decision(
        STOP, "step 2: the best so far, 3, is above the median of 3 trials' averages (2)")
    assert rule.decide(Report(4, 1, 2.0), PEERS) is None  # as good as the median of 1, 2, 3
    assert rule.decide(Report(4, 2, 9.0), PEERS) is None  # its best is still 2; the averages are 1.5, 2, 3, 3.5
    assert rule.decide(Report(5, 2, math.nan), PEERS) == Decision(
        STOP, "step 2: nothing finite was reported so far, which is worse than the median of 5 trials' averages (3)")
    assert rule.decide(Report(5, 3, 0.0), PEERS) is None  # told to stop already


def test_median_waits_for_warmup_and_peers() -> None:
    rule = MedianStopping(MAX, warmup_steps=3, min_trials=2)
    for number in range(4):
        for step in (1, 2, 3):
            decision = rule.decide(Report(number, step, -float(number)), PEERS)
            assert (decision is not None) == (step == 3 and number >= 2)
            if decision is not None:
                assert "is below the median of" in decision.reason


@given(STREAMS, st.sampled_from(list(Direction)), st.integers(0, 5), st.integers(1, 4))
def test_median_is_what_brute_force_says(
    stream: list[Report], direction: Direction, warmup_steps: int, min_trials: int) -> None:
    rule = MedianStopping(direction, warmup_steps=warmup_steps, min_trials=min_trials)
    book: dict[int, dict[int, float]] = {}
    stopped: set[int] = set()
    for number, step, value, _ in stream:
        decision = rule.decide(Report(number, step, value), PEERS)
        mine = book.setdefault(number, {})
        if number in stopped or (mine and step <= max(mine)):
            assert decision is None
            continue
        mine[step] = direction.score(value) if math.isfinite(value) else math.inf
        averages = []
        for peer, scores in book.items():
            so_far = [score for at, score in scores.items() if at <= step]
            if peer != number and so_far and max(scores) >= step:
                averages.append(sum(so_far) / len(so_far))
        stop = (step >= warmup_steps and len(averages) >= min_trials
                and min(mine.values()) > statistics.median(averages))
        assert (decision is not None and decision.stop) == stop
        if stop:
            stopped.add(number)


@given(STREAMS, st.integers(0, 6), st.none() | st.integers(0, 30))
def test_forgetting_is_exact(stream: list[Report], number: int, after_step: int | None) -> None:
    """A trial that reported alone at the end, in steps that rise, leaves what it reported up to a step and no more."""
    others = [r for r in stream if r.number != number]
    own = sorted((r for r in stream if r.number == number), key=lambda r: r.step)
    left = [] if after_step is None else [r for r in own if r.step <= after_step]
    for make in (lambda: ASHA(MIN, reduction=2), lambda: ASHA(MIN, reduction=2, type="stop"),
                 lambda: MedianStopping(MIN, min_trials=1), lambda: Hyperband(MIN), lambda: PBT(MIN, interval=2)):
        touched, clean = make(), make()
        for report in others + own:
            touched.decide(report, PEERS)
        touched.forget(number, after_step)
        for report in others + left:
            clean.decide(report, PEERS)
        for step in (1, 2, 5, 11, 30):
            probe = Report(99, step, 1.5)
            assert touched.decide(probe, PEERS) == clean.decide(probe, PEERS)


@pytest.mark.parametrize(("kind", "option", "value"), [
    (ASHA, "min_steps", 0), (ASHA, "reduction", 1), (ASHA, "reduction", 2.5), (ASHA, "max_steps", 0),
    (ASHA, "min_steps", True), (MedianStopping, "min_trials", 0), (MedianStopping, "warmup_steps", -1),
])
def test_options_that_make_no_sense(kind: type[ASHA], option: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"'{option}' of"):
        kind(MIN, **{option: value})  # type: ignore[arg-type]  # a mistake that a user makes


@pytest.mark.parametrize("make", [ASHA, MedianStopping])
def test_a_decision_is_quick(make: type[ASHA]) -> None:
    scheduler = make(MIN)
    stream = [r for seed in range(10) for r in reports(seed, trials=100, first=100 * seed)]
    per_report_s = timeit.timeit(lambda: [scheduler.decide(r, PEERS) for r in stream], number=1) / len(stream)
    assert per_report_s < 200e-6  # 1 to 4 us on an idle machine
