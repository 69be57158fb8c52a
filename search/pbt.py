"""Population based training (Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846), asynchronous, with pauses.

A population trains side by side. Every ``interval`` steps a member is compared with the others at that step: one among
the worst ``quantile`` ends, and a new trial takes its place. That one goes on from the newest checkpoint of one of the
best ``quantile``, with its configuration a little changed (``search/explore.py``). So every trial has one
configuration, and its parent and the parent's step are on record.

The population may be larger than the number of workers: a member that is ahead of others pauses, and the one that is
furthest behind goes on. Members are judged once all have come as far: paused ones when they would go on, others at
their next report. A member that fails, or ends itself, is replaced from one of the best too, until the first of them
has come to its own end.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from velodrome.errors import SpaceError, UsageError, nearest
from velodrome.search.explore import explore
from velodrome.search.numeric import Float
from velodrome.search.options import check_part, check_whole
from velodrome.search.scheduler import Peers, Turn
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import Action, Decision, Direction, Params, Report

if TYPE_CHECKING:
    import numpy as np


class PBT:
    """Population based training.

    Args:
        direction: Which way is better.
        seed: The study's seed: which of the best a trial goes on from is drawn.
        population: How many members train side by side, 2 or more.
        interval: How many steps lie between two comparisons.
        quantile: The part that is replaced, and the part that is taken over from; at most 0.5.
        resample: How likely a parameter is drawn anew instead of multiplied by 0.8 or 1.2.
        explore: The parameters that change, with ``+`` between; by default every ``Float``, since others, a width
            say, mostly do not fit the checkpoint.
    """

    needs_reports = True
    without_pauses = "no trial can take over another's state, and each runs to its own end"

    def __init__(
        self, direction: Direction, *, seed: int = 0, population: int = 8, interval: int = 5, quantile: float = 0.25,
        resample: float = 0.25, explore: str = "",
    ) -> None:
        check_whole("pbt", "population", population, at_least=2)
        check_whole("pbt", "interval", interval, at_least=1)
        check_part("pbt", "quantile", quantile, most=0.5)
        check_part("pbt", "resample", resample, most=1.0)
        self.pauses = True
        self._direction, self._seed = direction, seed
        self._population, self._interval, self._quantile = population, interval, quantile
        self._resample, self._explore = resample, explore
        self._scores: dict[int, list[tuple[float, int]]] = {}
        """For each comparison (the first is 1) score and number of those that came so far, best first."""
        self._reached: dict[int, list[tuple[int, float, int]]] = {}
        """For each trial its comparisons, with its scores and the steps of those reports."""
        self._judged: dict[int, tuple[int, int]] = {}
        """For each trial the last comparison that it was judged by while it ran, and at which step."""

    def decide(self, report: Report, peers: Peers) -> Decision | None:
        """Pauses a member that is ahead of a paused one; otherwise lets it go on, or replaces it, by its place.

        The place counts once all members have come so far, so the verdict on an early one comes at a later report.
        """
        number, step, value = report[:3]
        if not self.pauses:
            return None
        reached = self._reached.get(number)
        before = reached[-1][0] if reached else max(step - 1, 0) // self._interval
        round_ = step // self._interval
        if round_ <= before:
            return self._judge_late(report, peers)
        score = self._direction.score(value) if math.isfinite(value) else math.inf
        insort(self._scores.setdefault(round_, []), (score, number))
        self._reached.setdefault(number, []).append((round_, score, step))
        if peers.num_begun < min(self._population, peers.target) or self._is_ahead(round_, peers):
            return Decision(Action.PAUSE, f"step {step}: others of the population have not come so far")
        return self._judge_late(report, peers)

    def forget(self, number: int, after_step: int | None = None) -> None:
        """Takes the trial out of every comparison after that step, or out of all."""
        reached = self._reached.get(number, [])
        while reached and (after_step is None or reached[-1][2] > after_step):
            round_, score, _ = reached.pop()
            scores = self._scores[round_]
            del scores[bisect_left(scores, (score, number))]
        if not reached:
            self._reached.pop(number, None)
        if number in self._judged and (after_step is None or self._judged[number][1] > after_step):
            del self._judged[number]

    # --- pausing

    def turn(self, peers: Peers) -> tuple[int, Decision] | Turn:
        """A new member until the population is whole; then the member that is furthest behind, or its replacement."""
        if peers.num_begun < min(self._population, peers.target):
            return Turn.FRESH
        if peers.num_active < self._population and peers.num_begun < peers.target and not peers.has_completed:
            return self._replacement(peers)
        paused = [(reached[-1][0], number) for number, reached in self._reached.items() if peers.is_paused(number)]
        if not paused:
            return Turn.NOTHING
        number = min(paused)[1]
        decision = self._judge(number, peers)
        return number, decision if decision.stop else Decision(Action.PROMOTE, decision.reason)

    def give_up_pausing(self) -> None:
        """Without checkpoints nothing can be taken over: every trial runs to its end."""
        self.pauses = False

    def _replacement(self, peers: Peers) -> tuple[int, Decision] | Turn:
        """A trial in the place of a member that is gone: from one of the best of those that have come furthest."""
        for _, ranked in sorted(self._scores.items(), reverse=True):
            lenders = [number for score, number in ranked if score < math.inf and peers.can_lend(number)]
            if lenders:
                best = lenders[: max(1, int(len(ranked) * self._quantile))]
                rng = generator(self._seed, "replace", peers.num_begun)
                parent = best[int(rng.integers(len(best)))]
                reason = "a member has failed or ended itself: a new one takes its place, from this one's checkpoint"
                return parent, Decision(Action.FORK, reason, parent)
        return Turn.FRESH

    # --- exploit and explore

    def check(self, space: Space) -> None:
        """Refuses a space without anything to explore."""
        if not explored(space, self._explore):
            raise UsageError(
                "pbt finds no parameter to change in the search space", given=", ".join(space.domains) or "no space",
                allowed="a space with a Float, or explore=NAME+NAME", hint="--scheduler pbt:explore=NAME",
            )

    def explore(self, params: Params, space: Space, rng: np.random.Generator) -> Params:
        """The configuration of a trial that goes on from the checkpoint of one that has ``params``."""
        return explore(params, space, rng, names=explored(space, self._explore), resample=self._resample)

    def _is_ahead(self, round_: int, peers: Peers) -> bool:
        return any(reached[-1][0] < round_ and peers.is_paused(number) for number, reached in self._reached.items())

    def _judge_late(self, report: Report, peers: Peers) -> Decision | None:
        """The verdict on a running member, once for each comparison: when everybody has come to it."""
        number = report.number
        reached = self._reached.get(number)
        if not reached or self._judged.get(number, (0, 0))[0] == reached[-1][0]:
            return None
        if any(self._is_behind(other, reached[-1][0], peers) for other in range(peers.num_begun)):
            return None
        self._judged[number] = (reached[-1][0], report.step)
        return self._judge(number, peers)

    def _is_behind(self, number: int, round_: int, peers: Peers) -> bool:
        """Whether a member has still to come to a comparison; one from another's checkpoint may have begun after it."""
        if peers.is_over(number):
            return False
        reached = self._reached.get(number)
        return reached[-1][0] < round_ if reached else number < self._population

    def _judge(self, number: int, peers: Peers) -> Decision:
        """Whether the member goes on, or ends so that a trial from the checkpoint of a better one takes its place."""
        round_, score, step = self._reached[number][-1]
        ranked = self._scores[round_]
        place, count = bisect_left(ranked, (score, number)), len(ranked)
        most = int(count * self._quantile)
        where = f"step {step}: {self._direction.score(score):.6g} is number {place + 1} of {count}"
        if place < count - most:
            return Decision(Action.CONTINUE, where)
        if peers.num_begun >= peers.target:
            return Decision(Action.CONTINUE, f"{where}, and no trial is left to take its place")
        parents = [n for s, n in ranked[:most] if s < math.inf and n != number and peers.can_lend(n)]
        if not parents:
            return Decision(Action.CONTINUE, f"{where}, and no better one has a checkpoint to take over")
        rng = generator(self._seed, "exploit", number, round_)
        parent = parents[int(rng.integers(len(parents)))]
        return Decision(Action.STOP, f"{where}: a new one, from trial {parent}'s checkpoint, takes its place", parent)


def explored(space: Space, names: str = "") -> tuple[str, ...]:
    """The parameters that ``explore`` may change: those named, with ``+`` between, or else every ``Float``.

    Raises:
        SpaceError: If the space has no parameter of a name.
    """
    if not names:
        return tuple(name for name, domain in space.domains.items() if isinstance(domain, Float))
    wanted = tuple(name.strip() for name in names.split("+"))
    for name in wanted:
        if name not in space.domains:
            raise SpaceError("pbt is to change a parameter that the space does not have", given=repr(name),
                             allowed=", ".join(space.domains), hint=nearest(name, space.domains))
    return wanted
