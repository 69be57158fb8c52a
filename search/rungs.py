"""Rungs of successive halving: where they stand, and who of those that reached one goes on. Whole numbers only."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator


class Rung:
    """The trials that reached a rung, best first; of equal ones the earlier number first."""

    __slots__ = ("ranked", "waiting")

    def __init__(self) -> None:
        self.ranked: list[tuple[float, int]] = []
        """Score (lower is better) and number of all that reached it."""
        self.waiting: list[tuple[float, int]] = []
        """Those of them that have come no further."""

    def __len__(self) -> int:
        return len(self.ranked)

    def add(self, number: int, score: float) -> None:
        """The trial reached the rung, and has come no further."""
        insort(self.ranked, (score, number))
        self.come_back(number, score)

    def come_back(self, number: int, score: float) -> None:
        """The trial has come no further than this."""
        insort(self.waiting, (score, number))

    def leave(self, number: int, score: float) -> None:
        """The trial has come further."""
        _remove(self.waiting, (score, number))

    def remove(self, number: int, score: float) -> None:
        """The trial was never here."""
        _remove(self.ranked, (score, number))
        _remove(self.waiting, (score, number))

    def place(self, number: int, score: float) -> int:
        """The trial's place among all that reached the rung, from 0."""
        return bisect_left(self.ranked, (score, number))

    def promotable(self, keep: int) -> Iterator[tuple[int, float]]:
        """Number and score of those that have come no further and are among the best ``keep``, best first."""
        for score, number in self.waiting:
            if score == math.inf or self.place(number, score) >= keep:
                return
            yield number, score


def rung_at(step: int, *, above: int, first: int, reduction: int, below: float) -> int | None:
    """The highest rung ``first * reduction**k`` that is at or below ``step``, above ``above`` and below ``below``.

    ``above`` is a rung, or 0.
    """
    found = None
    rung = above * reduction if above else first
    while rung <= step and rung < below:
        found = rung
        rung *= reduction
    return found


def _remove(pairs: list[tuple[float, int]], pair: tuple[float, int]) -> None:
    at = bisect_left(pairs, pair)
    if at < len(pairs) and pairs[at] == pair:
        del pairs[at]
