"""Asynchronous Hyperband: several ASHA brackets beside each other (Li et al. 2018, https://arxiv.org/abs/1603.06560).

ASHA trusts early figures as far as its first rung says. Hyperband hedges: bracket ``s`` has its first rung at
``min_steps * reduction**s``, so that some trials are judged late only. A trial's bracket follows from its number, in
the proportions of the paper's ``n`` (algorithm 1): with three brackets and a reduction of 4, 16 trials go to the first
for 6 that go to the second and 3 to the last. Rungs of different brackets are not compared.
"""

from __future__ import annotations

from velodrome.search.asha import ASHA
from velodrome.search.options import check_whole
from velodrome.search.scheduler import Peers, Turn
from velodrome.types import Decision, Direction, Report


class Hyperband:
    """Several brackets of ASHA.

    Args:
        direction: Which way is better.
        brackets: How many, 2 or more.
        min_steps: The first rung of the first bracket.
        reduction: One in ``reduction`` goes on.
        max_steps: The steps of a whole trial, if known; brackets whose first rung would not be below it are left out.
        type: ``promote`` or ``stop``, as for ASHA.
    """

    needs_reports = True
    without_pauses = ASHA.without_pauses

    def __init__(
        self, direction: Direction, *, brackets: int = 3, min_steps: int = 1, reduction: int = 4,
        max_steps: int | None = None, type: str = "promote",
    ) -> None:
        check_whole("hyperband", "brackets", brackets, at_least=2)
        self._brackets: list[ASHA] = []
        for index in range(brackets):
            bracket = ASHA(direction, min_steps=min_steps, reduction=reduction, max_steps=max_steps, type=type,
                           label=f"bracket {index}, ")
            if index and max_steps is not None and min_steps * reduction**index >= max_steps:
                break
            self._brackets.append(bracket)
        count = len(self._brackets)
        self._weights = [reduction ** (count - 1 - s) * count / (count - s) for s in range(count)]
        self._given = [0] * count
        self._bracket_of: list[int] = []
        """The brackets of the trials, by number."""

    @property
    def pauses(self) -> bool:
        """Whether its brackets pause trials."""
        return self._brackets[0].pauses

    def bracket_of(self, number: int) -> int:
        """The bracket of a trial: always the one that is furthest behind its share."""
        while len(self._bracket_of) <= number:
            behind = [(given + 1) / weight for given, weight in zip(self._given, self._weights, strict=True)]
            index = behind.index(min(behind))
            self._given[index] += 1
            self._bracket_of.append(index)
        return self._bracket_of[number]

    def decide(self, report: Report, peers: Peers) -> Decision | None:
        """The verdict of the trial's bracket."""
        return self._of(report.number).decide(report, peers)

    def forget(self, number: int, after_step: int | None = None) -> None:
        """The same in the trial's bracket."""
        self._of(number).forget(number, after_step)

    def turn(self, peers: Peers) -> tuple[int, Decision] | Turn:
        """The trial to promote from the highest rung of any bracket; otherwise a new one."""
        found = [f for f in (b.promotable(peers) for b in self._brackets) if f is not None]
        found = found or [f for f in (b.finalist(peers) for b in self._brackets) if f is not None]
        return max(found, key=lambda f: f[0])[1:] if found else Turn.FRESH

    def give_up_pausing(self) -> None:
        """From now on trials are stopped instead."""
        for bracket in self._brackets:
            bracket.give_up_pausing()

    def _of(self, number: int) -> ASHA:
        return self._brackets[self.bracket_of(number)]
