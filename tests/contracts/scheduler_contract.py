"""What every scheduler must do. Subclass it, say how to make one, and pytest runs the rest::

    class TestMyScheduler(SchedulerContract):
        def make(self, direction: Direction) -> Scheduler:
            return MyScheduler(direction)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import numpy as np
import pytest

from velodrome.search.scheduler import PausingScheduler, Scheduler, Turn
from velodrome.types import Action, Decision, Direction, Report

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


class SomePeers:
    """The trials of a study, as ``feed`` moves them: who is paused, and who has a checkpoint (all not yet over)."""

    def __init__(self) -> None:
        self.target, self.num_begun = 10_000, 0
        self.is_ending = self.has_completed = False
        self.paused: set[int] = set()
        self.stopped: set[int] = set()

    @property
    def num_active(self) -> int:
        return self.num_begun

    def is_paused(self, number: int) -> bool:
        return number in self.paused

    def is_over(self, number: int) -> bool:
        return number in self.stopped

    def can_lend(self, number: int) -> bool:
        return number not in self.stopped


class SchedulerContract:
    """The contract."""

    def make(self, direction: Direction) -> Scheduler:
        """A new scheduler, always the same."""
        raise NotImplementedError

    def feed(
        self, scheduler: Scheduler, stream: Iterable[Report], peers: SomePeers | None = None
    ) -> list[Decision | tuple[int, Decision] | None]:
        """Its decisions. A trial that was stopped reports no more; one that is paused, when it was promoted again."""
        peers = SomePeers() if peers is None else peers
        left: dict[int, list[Report]] = {}
        decisions: list[Decision | tuple[int, Decision] | None] = []
        todo = list(reversed(list(stream)))
        while todo:
            report = todo.pop()
            number = report.number
            peers.num_begun = max(peers.num_begun, number + 1)
            if number in peers.paused:
                left.setdefault(number, []).append(report)
                continue
            decision = None if number in peers.stopped else scheduler.decide(report, peers)
            decisions.append(decision)
            if decision is not None and decision.action is Action.STOP:
                peers.stopped.add(number)
            if decision is not None and decision.action is Action.PAUSE:
                peers.paused.add(number)
            if scheduler.pauses:
                turn = cast(PausingScheduler, scheduler).turn(peers)
                if isinstance(turn, tuple):
                    decisions.append(turn)
                    peers.paused.remove(turn[0])
                    if turn[1].stop:
                        peers.stopped.add(turn[0])
                    todo += reversed(left.pop(turn[0], []))
        return decisions

    def actions(self, scheduler: Scheduler, stream: Iterable[Report]) -> list[object]:
        """The decisions without their reasons."""
        found: list[object] = []
        for decision in self.feed(scheduler, stream):
            number, verdict = decision if isinstance(decision, tuple) else (None, decision)
            found.append((number, verdict and verdict.action))
        return found

    @pytest.mark.parametrize("seed", range(3))
    def test_the_same_reports_give_the_same_decisions(self, seed: int) -> None:
        assert self.feed(self.make(MIN), reports(seed)) == self.feed(self.make(MIN), reports(seed))

    @pytest.mark.parametrize("direction", Direction)
    def test_every_decision_has_a_reason(self, direction: Direction) -> None:
        for decision in self.feed(self.make(direction), reports(0)):
            verdict = decision[1] if isinstance(decision, tuple) else decision
            assert verdict is None or verdict.reason.strip()

    def test_it_says_truly_whether_it_needs_reports(self) -> None:
        scheduler = self.make(MIN)
        actions = [a for seed in range(3) for _, a in self.actions(self.make(MIN), reports(seed, trials=100))]
        assert scheduler.needs_reports == any(action not in (None, Action.CONTINUE) for action in actions)
        assert scheduler.pauses == (Action.PAUSE in actions)

    def test_both_directions_are_alike(self) -> None:
        stream = reports(1)
        turned = [Report(r.number, r.step, -r.value) for r in stream]
        assert self.actions(self.make(MIN), stream) == self.actions(self.make(MAX), turned)

    @pytest.mark.parametrize("worst", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("direction", Direction)
    def test_what_is_not_finite_is_worse_than_anything(self, direction: Direction, worst: float) -> None:
        plain = [Report(r.number, r.step, min(max(r.value, -10.0), 10.0)) for r in reports(2, odd=0.0)]
        odd = [r._replace(value=worst) if r.number % 5 == 0 else r for r in plain]
        bad = [r._replace(value=direction.score(1e9)) if r.number % 5 == 0 else r for r in plain]
        assert self.actions(self.make(direction), odd) == self.actions(self.make(direction), bad)

    @pytest.mark.parametrize("seed", range(3))
    def test_a_forgotten_trial_leaves_no_trace(self, seed: int) -> None:
        before, after = reports(seed), reports(seed + 10, first=1000)
        clean, other = self.make(MIN), self.make(MIN)
        self.feed(clean, before)
        self.feed(other, before)
        for report in [Report(n, step, 0.1 * n - step) for step in (1, 4, 7, 16) for n in (500, 501)]:
            other.decide(report, SomePeers())
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
            for report in [r for r in curve if r.step <= after_step]:
                clean.decide(report, SomePeers())
            for report in curve:
                other.decide(report, SomePeers())
            other.forget(500, after_step)
            rest = [r for r in curve if r.step > after_step]
            assert [other.decide(r, SomePeers()) for r in rest] == [clean.decide(r, SomePeers()) for r in rest]
            assert self.feed(other, after) == self.feed(clean, after)

    def test_an_unknown_trial_can_be_forgotten(self) -> None:
        self.make(MIN).forget(12345)
        self.make(MIN).forget(12345, 3)

    def test_only_a_paused_trial_gets_a_turn_and_looking_changes_nothing(self) -> None:
        scheduler, peers = self.make(MIN), SomePeers()
        if not scheduler.pauses:
            return
        pausing = cast(PausingScheduler, scheduler)
        for report in reports(0):
            if report.number in peers.paused | peers.stopped:
                continue
            decision = scheduler.decide(report, peers)
            if decision is not None and decision.action is not Action.CONTINUE:
                (peers.paused if decision.action is Action.PAUSE else peers.stopped).add(report.number)
            turn = pausing.turn(peers)
            assert turn == pausing.turn(peers)
            if isinstance(turn, Turn):
                continue
            assert turn[0] in peers.paused
            assert turn[1].action in (Action.PROMOTE, Action.STOP)
        peers.paused.clear()
        assert isinstance(pausing.turn(peers), Turn)

    def test_without_pauses_nothing_pauses(self) -> None:
        scheduler = self.make(MIN)
        if not scheduler.pauses:
            return
        pausing = cast(PausingScheduler, scheduler)
        self.feed(scheduler, reports(0))
        pausing.give_up_pausing()
        assert not scheduler.pauses
        assert pausing.without_pauses
        assert Action.PAUSE not in [action for _, action in self.actions(scheduler, reports(1, first=500))]
