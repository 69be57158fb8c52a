"""What every scheduler must do. Subclass it, say how to make one, and pytest runs the rest::

    class TestMyScheduler(SchedulerContract):
        def make(self, direction: Direction) -> Scheduler:
            return MyScheduler(direction)
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from velodrome.search.scheduler import Scheduler
from velodrome.types import Decision, Direction, Report

MIN, MAX = Direction.MINIMIZE, Direction.MAXIMIZE


def reports(seed: int, *, trials: int = 40, steps: int = 20, first: int = 0, odd: float = 0.05) -> list[Report]:
    """Learning curves of ``trials`` trials, a few at a time and interleaved; some values are not finite, steps skip."""
    rng = np.random.default_rng(seed)
    curves = []
    for number in range(first, first + trials):
        level, at = rng.random(), np.sort(rng.choice(steps, rng.integers(1, steps + 1), replace=False)) + 1
        values = level + 1 / at + 0.1 * rng.standard_normal(len(at))
        values[rng.random(len(at)) < odd] = rng.choice([math.nan, math.inf, -math.inf])
        curves.append([Report(number, int(step), float(v)) for step, v in zip(at, values, strict=True)])
    merged = []
    while curves:
        curve = curves[int(rng.integers(min(4, len(curves))))]
        merged.append(curve.pop(0))
        curves = [c for c in curves if c]
    return merged


class SchedulerContract:
    """The contract."""

    def make(self, direction: Direction) -> Scheduler:
        """A new scheduler, always the same."""
        raise NotImplementedError

    def feed(self, scheduler: Scheduler, stream: Iterable[Report]) -> list[Decision | None]:
        """Its decisions; a trial that was stopped reports no more."""
        stopped: set[int] = set()
        decisions = []
        for report in stream:
            decision = None if report.number in stopped else scheduler.decide(report)
            decisions.append(decision)
            if decision is not None and decision.stop:
                stopped.add(report.number)
        return decisions

    @pytest.mark.parametrize("seed", range(3))
    def test_the_same_reports_give_the_same_decisions(self, seed: int) -> None:
        assert self.feed(self.make(MIN), reports(seed)) == self.feed(self.make(MIN), reports(seed))

    @pytest.mark.parametrize("direction", Direction)
    def test_every_decision_has_a_reason(self, direction: Direction) -> None:
        for decision in self.feed(self.make(direction), reports(0)):
            assert decision is None or decision.reason.strip()

    def test_it_says_truly_whether_it_needs_reports(self) -> None:
        scheduler = self.make(MIN)
        decisions = [d for seed in range(3) for d in self.feed(self.make(MIN), reports(seed, trials=100))]
        assert scheduler.needs_reports == any(d is not None and d.stop for d in decisions)

    def test_both_directions_are_alike(self) -> None:
        stream = reports(1)
        turned = [Report(r.number, r.step, -r.value) for r in stream]
        low, high = self.feed(self.make(MIN), stream), self.feed(self.make(MAX), turned)
        assert [d and d.stop for d in low] == [d and d.stop for d in high]

    @pytest.mark.parametrize("worst", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("direction", Direction)
    def test_what_is_not_finite_is_worse_than_anything(self, direction: Direction, worst: float) -> None:
        plain = [Report(r.number, r.step, min(max(r.value, -10.0), 10.0)) for r in reports(2, odd=0.0)]
        odd = [r._replace(value=worst) if r.number % 5 == 0 else r for r in plain]
        bad = [r._replace(value=direction.score(1e9)) if r.number % 5 == 0 else r for r in plain]
        with_odd, with_bad = self.feed(self.make(direction), odd), self.feed(self.make(direction), bad)
        assert [d and d.stop for d in with_odd] == [d and d.stop for d in with_bad]

    @pytest.mark.parametrize("seed", range(3))
    def test_a_forgotten_trial_leaves_no_trace(self, seed: int) -> None:
        before, after = reports(seed), reports(seed + 10, first=1000)
        clean, other = self.make(MIN), self.make(MIN)
        self.feed(clean, before)
        self.feed(other, before)
        extra = [Report(n, step, 0.1 * n - step) for step in (1, 4, 7, 16) for n in (500, 501)]
        self.feed(other, extra)
        other.forget(500)
        other.forget(501)
        assert self.feed(other, after) == self.feed(clean, after)

    def test_a_forgotten_trial_can_start_again(self) -> None:
        scheduler = self.make(MIN)
        self.feed(scheduler, reports(0))
        curve = [Report(500, step, 5.0 + step) for step in range(1, 21)]
        first = self.feed(scheduler, curve)
        scheduler.forget(500)
        assert self.feed(scheduler, curve) == first

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("after_step", [0, 1, 5, 12, 30])
    def test_a_trial_that_goes_back_to_a_step_is_as_it_was_then(self, seed: int, after_step: int) -> None:
        """Whether it had been stopped or not, before that step or after it."""
        before, after = reports(seed), reports(seed + 10, first=1000)
        for level in (-2.0, 0.5, 5.0):
            curve = [Report(500, step, level + 1 / step) for step in (1, 3, 4, 5, 9, 16, 20)]
            clean, other = self.make(MIN), self.make(MIN)
            self.feed(clean, before)
            self.feed(other, before)
            self.feed(clean, [r for r in curve if r.step <= after_step])
            for report in curve:
                other.decide(report)
            other.forget(500, after_step)
            rest = [r for r in curve if r.step > after_step]
            assert [other.decide(r) for r in rest] == [clean.decide(r) for r in rest]
            assert self.feed(other, after) == self.feed(clean, after)

    def test_an_unknown_trial_can_be_forgotten(self) -> None:
        self.make(MIN).forget(12345)
        self.make(MIN).forget(12345, 3)
