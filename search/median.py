"""The median stopping rule (Golovin et al. 2017, Google Vizier, section 3.2.2): stop what is worse than most before it.

A trial is stopped at a step if its best value so far is worse than the median of its peers' running averages up to that
step. Peers are all other trials that have come as far, finished or not; one that skipped the step counts with the
average of its reports before it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

from velodrome.search.options import check_whole
from velodrome.search.scheduler import Peers
from velodrome.types import Action, Decision, Direction, Report


@dataclass(slots=True)
class _Course:
    """What one trial has reported, as scores (lower is better)."""

    steps: list[int] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    """The sum of the scores up to each of ``steps``."""
    bests: list[float] = field(default_factory=list)
    """The best of them."""

    def add(self, step: int, score: float) -> None:
        """One more report."""
        self.totals.append(self.totals[-1] + score if self.totals else 0.0 + score)
        self.bests.append(min(self.bests[-1], score) if self.bests else score)
        self.steps.append(step)

    def cut(self, count: int) -> None:
        """Drops all but the first so many reports."""
        del self.steps[count:], self.totals[count:], self.bests[count:]

    @property
    def average(self) -> float:
        """The average of all scores."""
        return self.totals[-1] / len(self.totals)

    def average_at(self, step: int) -> float | None:
        """The running average up to ``step``; None if the trial has not come as far, or began later."""
        if not self.steps or self.steps[-1] < step:
            return None
        i = bisect_right(self.steps, step) - 1
        return self.totals[i] / (i + 1) if i >= 0 else None


class MedianStopping:
    """Stops a trial that is worse than the median of its peers.

    For each step that anybody reported, the peers' averages are kept in order, so that a verdict costs a binary search.
    Objectives that report at the same steps in every trial keep this small.

    Args:
        direction: Which way is better.
        warmup_steps: Nothing is judged at steps below this.
        min_trials: How many peers must have come as far, 1 or more.
    """

    needs_reports = True
    pauses = False

    def __init__(self, direction: Direction, *, warmup_steps: int = 0, min_trials: int = 5) -> None:
        check_whole("median", "warmup_steps", warmup_steps, at_least=0)
        check_whole("median", "min_trials", min_trials, at_least=1)
        self._direction = direction
        self._warmup_steps = warmup_steps
        self._min_trials = min_trials
        self._courses: dict[int, _Course] = {}
        self._steps: list[int] = []
        """Every step that was reported, in order."""
        self._averages: dict[int, list[float]] = {}
        """For each of them the averages of all trials that have come as far, in order."""
        self._stopped: dict[int, int] = {}
        """The trials that were stopped, and at which step."""

    def decide(self, report: Report, peers: Peers) -> Decision | None:
        """A decision where the trial is to stop; None where it goes on.

        A report at a step that the trial had passed already changes nothing.
        """
        number, step, value = report[:3]
        course = self._courses.setdefault(number, _Course())
        if number in self._stopped or (course.steps and step <= course.steps[-1]):
            return None
        averages = self._reach(course, step)
        course.add(step, self._direction.score(value) if math.isfinite(value) else math.inf)
        decision = self._judge(step, course.bests[-1], averages)
        insort(averages, course.average)
        if decision is not None:
            self._stopped[number] = step
        return decision

    def forget(self, number: int, after_step: int | None = None) -> None:
        """Takes the trial's averages out of every step that it has no report at or beyond any more."""
        course = self._courses.get(number)
        if course is None:
            return
        left = 0 if after_step is None else bisect_right(course.steps, after_step)
        if left == len(course.steps):
            return
        first = bisect_right(self._steps, course.steps[left - 1]) if left else bisect_left(self._steps, course.steps[0])
        last = bisect_right(self._steps, course.steps[-1])
        for step in self._steps[first:last]:
            average = course.average_at(step)
            assert average is not None
            averages = self._averages[step]
            del averages[bisect_left(averages, average)]
        course.cut(left)
        if not left:
            del self._courses[number]
        if number in self._stopped and (after_step is None or self._stopped[number] > after_step):
            del self._stopped[number]

    def _reach(self, course: _Course, step: int) -> list[float]:
        """Notes that a trial has passed the steps up to ``step``; the averages of its peers there."""
        if course.steps:
            first, last = bisect_right(self._steps, course.steps[-1]), bisect_left(self._steps, step)
            for passed in self._steps[first:last]:
                insort(self._averages[passed], course.average)
        if step not in self._averages:
            found = (other.average_at(step) for other in self._courses.values())
            self._averages[step] = sorted(a for a in found if a is not None)
            insort(self._steps, step)
        return self._averages[step]

    def _judge(self, step: int, best: float, peers: list[float]) -> Decision | None:
        if step < self._warmup_steps or len(peers) < self._min_trials:
            return None
        middle = len(peers) // 2
        median = peers[middle] if len(peers) % 2 else (peers[middle - 1] + peers[middle]) / 2
        if best <= median:
            return None
        worse = "above" if self._direction is Direction.MINIMIZE else "below"
        mine = f"the best so far, {self._direction.score(best):.6g}, is {worse}"
        if not math.isfinite(best):
            mine = "nothing finite was reported so far, which is worse than"
        shown = self._direction.score(median)
        return Decision(Action.STOP, f"step {step}: {mine} the median of {len(peers)} trials' averages ({shown:.6g})")
