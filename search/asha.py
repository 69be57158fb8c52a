"""Asynchronous successive halving (Li et al. 2020, https://arxiv.org/abs/1810.05934), which pauses or stops trials.

Rungs stand at ``min_steps * reduction**k`` steps, in whole numbers. The type ``promote`` is the paper's: a trial that
reaches a rung pauses there, and goes on when it is among the best ``1 / reduction`` of all that have reached the rung
by then (algorithm 2, ``get_job``: the highest rung first, a new trial where nobody can be promoted). It needs an
objective that makes checkpoints. The type ``stop`` stops a trial at a rung for good where it is not among the best at
that moment, as Ray Tune's and Syne Tune's do; it never needs a trial to start again. Nobody waits for anybody.

Beyond the paper: a trial that could be promoted when it reaches a rung goes straight on, since pausing it would only
cost time. And when nothing else is left to do and no trial has come to its end, the best one of the highest rung does.

A step is the resource used so far, as the objective reports it. Count from 1 (after the first epoch, step 1). Where an
objective counts from 0, the report at step 0 reaches no rung, and each rung comes one epoch later.
"""

from __future__ import annotations

import math

from velodrome.search.options import check_one_of, check_whole
from velodrome.search.rungs import Rung, rung_at
from velodrome.search.scheduler import Peers, Turn
from velodrome.types import Action, Decision, Direction, Report

TYPES = ("promote", "stop")


class ASHA:
    """Lets the better part of the trials past every rung.

    Args:
        direction: Which way is better.
        min_steps: The first rung, 1 or more.
        reduction: One in ``reduction`` goes on, 2 or more.
        max_steps: The steps of a whole trial, if known: there is no rung at or above it.
        type: ``promote`` (trials pause at rungs) or ``stop``.
        label: Begins every reason.
    """

    needs_reports = True
    without_pauses = "trials are stopped at rungs, not paused"

    def __init__(
        self, direction: Direction, *, min_steps: int = 1, reduction: int = 4, max_steps: int | None = None,
        type: str = "promote", label: str = "",
    ) -> None:
        check_whole("asha", "min_steps", min_steps, at_least=1)
        check_whole("asha", "reduction", reduction, at_least=2)
        if max_steps is not None:
            check_whole("asha", "max_steps", max_steps, at_least=1)
        check_one_of("asha", "type", type, TYPES)
        self.pauses = type == "promote"
        self._direction = direction
        self._min_steps = min_steps
        self._reduction = reduction
        self._max_steps = math.inf if max_steps is None else max_steps
        self._label = label
        self._rungs: dict[int, Rung] = {}
        self._reached: dict[int, list[tuple[int, float, int]]] = {}
        """For each trial the rungs it reached, with its scores and the steps of those reports."""
        self._stopped: set[int] = set()

    def decide(self, report: Report, peers: Peers) -> Decision | None:
        """The verdict at a rung; None between rungs.

        A rung is judged at the trial's first report at or above it. A report that passes several rungs at once counts
        at the highest only: its value says nothing about the others.
        """
        number, step, value = report[:3]
        if number in self._stopped:
            return None
        reached = self._reached.get(number)
        at = rung_at(step, above=reached[-1][0] if reached else 0, first=self._min_steps, reduction=self._reduction,
                     below=self._max_steps)
        if at is None:
            return None
        score = self._direction.score(value) if math.isfinite(value) else math.inf
        if reached:
            self._rungs[reached[-1][0]].leave(number, reached[-1][1])
        rung = self._rungs.setdefault(at, Rung())
        rung.add(number, score)
        self._reached.setdefault(number, []).append((at, score, step))
        judge = self._pause_or_not if self.pauses else self._stop_or_not
        return judge(number, at, value, score)

    def forget(self, number: int, after_step: int | None = None) -> None:
        """Takes the trial out of every rung that it reached after that step, or out of all."""
        reached = self._reached.get(number, [])
        while reached and (after_step is None or reached[-1][2] > after_step):
            at, score, _ = reached.pop()
            self._rungs[at].remove(number, score)
            self._stopped.discard(number)  # the last rung that it reached was where it was stopped, if it was
            if reached:
                self._rungs[reached[-1][0]].come_back(number, reached[-1][1])
        if not reached:
            self._reached.pop(number, None)

    # --- pausing

    def turn(self, peers: Peers) -> tuple[int, Decision] | Turn:
        """The best trial that can be promoted from the highest rung where there is one; otherwise a new trial."""
        found = self.promotable(peers) or self.finalist(peers)
        return Turn.FRESH if found is None else found[1:]

    def promotable(self, peers: Peers) -> tuple[int, int, Decision] | None:
        """Rung and number of the paused trial to promote next; None where there is none."""
        for at in sorted(self._rungs, reverse=True):
            rung = self._rungs[at]
            for number, score in rung.promotable(len(rung) // self._reduction):
                if peers.is_paused(number):
                    value = self._direction.score(score)
                    where = f"{value:.6g} is in the top 1/{self._reduction} of {len(rung)} by now"
                    return at, number, Decision(Action.PROMOTE, f"{self._label}rung {at}: {where}")
        return None

    def finalist(self, peers: Peers) -> tuple[int, int, Decision] | None:
        """The best paused trial of the highest rung, where a study would end without a trial that came to its end."""
        if not peers.is_ending or peers.has_completed:
            return None
        for at in sorted(self._rungs, reverse=True):
            for _, number in self._rungs[at].waiting:
                if peers.is_paused(number):
                    reason = f"{self._label}rung {at}: the best of the highest rung, and no trial has come to its end"
                    return at, number, Decision(Action.PROMOTE, reason)
        return None

    def give_up_pausing(self) -> None:
        """From now on trials are stopped instead."""
        self.pauses = False

    # --- verdicts

    def _pause_or_not(self, number: int, at: int, value: float, score: float) -> Decision:
        rung = self._rungs[at]
        keep, place = len(rung) // self._reduction, rung.place(number, score)
        is_in = place < keep and score < math.inf
        where = f"{self._label}rung {at}: {value:.6g} is number {place + 1} of {len(rung)}"
        return Decision(Action.CONTINUE if is_in else Action.PAUSE, f"{where}, of which {keep or 'none'} go on so far")

    def _stop_or_not(self, number: int, at: int, value: float, score: float) -> Decision:
        """While fewer than ``reduction`` trials have reached a rung, all go on. Equal values share the better place."""
        rung = self._rungs[at]
        keep = len(rung) // self._reduction
        if keep == 0:
            return Decision(Action.CONTINUE, f"{self._label}rung {at}: {value:.6g} is number {len(rung)} of the "
                                             f"{self._reduction} that are needed to compare")
        cutoff = rung.ranked[keep - 1][0]
        stop = score > cutoff
        if stop:
            self._stopped.add(number)
        worse = "above" if self._direction is Direction.MINIMIZE else "below"
        place = "in" if not stop else worse if math.isfinite(value) else "worse than"
        top = f"the top 1/{self._reduction} ({self._direction.score(cutoff):.6g})"
        return Decision(Action.STOP if stop else Action.CONTINUE,
                        f"{self._label}rung {at}: {value:.6g} is {place} {top} of {len(rung)}")
