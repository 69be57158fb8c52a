"""Asynchronous successive halving, the variant that stops trials (Li et al. 2020, https://arxiv.org/abs/1810.05934).

Rungs stand at ``min_steps * reduction**k`` steps, in whole numbers. A trial that reaches a rung goes on if it is among
the best ``1 / reduction`` of all that reached it so far; nobody waits for anybody. (The paper pauses and promotes; this
variant stops, as Ray Tune's and Syne Tune's do, and never needs a trial to start again.)

A step is the resource used so far, as the objective reports it. Count from 1 (after the first epoch, step 1). Where an
objective counts from 0, the report at step 0 reaches no rung, and each rung comes one epoch later.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort

from velodrome.search.options import check_whole
from velodrome.types import Decision, Direction, Report


class ASHA:
    """Stops the worse part of the trials at every rung.

    Args:
        direction: Which way is better.
        min_steps: The first rung, 1 or more.
        reduction: One in ``reduction`` goes on, 2 or more.
        max_steps: The steps of a whole trial, if known: there is no rung at or above it.
    """

    needs_reports = True

    def __init__(
        self, direction: Direction, *, min_steps: int = 1, reduction: int = 4, max_steps: int | None = None
    ) -> None:
        check_whole("asha", "min_steps", min_steps, at_least=1)
        check_whole("asha", "reduction", reduction, at_least=2)
        if max_steps is not None:
            check_whole("asha", "max_steps", max_steps, at_least=1)
        self._direction = direction
        self._min_steps = min_steps
        self._reduction = reduction
        self._max_steps = math.inf if max_steps is None else max_steps
        self._rungs: dict[int, list[float]] = {}
        """For each rung the scores of the trials that reached it, best (lowest) first."""
        self._reached: dict[int, list[tuple[int, float, int]]] = {}
        """For each trial the rungs it reached, with its scores and the steps of those reports."""
        self._stopped: set[int] = set()

    def decide(self, report: Report) -> Decision | None:
        """The verdict at a rung; None between rungs.

        A rung is judged at the trial's first report at or above it. A report that passes several rungs at once counts
        at the highest only: its value says nothing about the others. While fewer than ``reduction`` trials have
        reached a rung, all go on. Equal values share the better place.
        """
        number, step, value = report
        if number in self._stopped:
            return None
        reached = self._reached.get(number)
        rung = self._rung_at(step, above=reached[-1][0] if reached else 0)
        if rung is None:
            return None
        score = self._direction.score(value) if math.isfinite(value) else math.inf
        scores = self._rungs.setdefault(rung, [])
        insort(scores, score)
        self._reached.setdefault(number, []).append((rung, score, step))
        return self._judge(number, rung, value, score, scores)

    def forget(self, number: int, after_step: int | None = None) -> None:
        """Takes the trial out of every rung that it reached after that step, or out of all."""
        reached = self._reached.get(number, [])
        while reached and (after_step is None or reached[-1][2] > after_step):
            rung, score, _ = reached.pop()
            scores = self._rungs[rung]
            del scores[bisect_left(scores, score)]
            self._stopped.discard(number)  # the last rung that it reached was where it was stopped, if it was
        if not reached:
            self._reached.pop(number, None)

    def _judge(self, number: int, rung: int, value: float, score: float, scores: list[float]) -> Decision:
        keep = len(scores) // self._reduction
        if keep == 0:
            return Decision(False, f"rung {rung}: {value:.6g} is number {len(scores)} of the {self._reduction} "
                                   "that are needed to compare")
        cutoff = scores[keep - 1]
        stop = score > cutoff
        if stop:
            self._stopped.add(number)
        worse = "above" if self._direction is Direction.MINIMIZE else "below"
        place = "in" if not stop else worse if math.isfinite(value) else "worse than"
        top = f"the top 1/{self._reduction} ({self._direction.score(cutoff):.6g})"
        return Decision(stop, f"rung {rung}: {value:.6g} is {place} {top} of {len(scores)}")

    def _rung_at(self, step: int, *, above: int) -> int | None:
        """The highest rung at or below ``step``, if it is higher than ``above``."""
        found = None
        rung = above * self._reduction if above else self._min_steps
        while rung <= step and rung < self._max_steps:
            found = rung
            rung *= self._reduction
        return found
