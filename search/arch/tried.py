"""What a study has tried, as the architecture samplers see it: configurations with their scores, each structure known.

Kept up to date from the history at each call; a new one over the same history is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from velodrome.pareto import Point, ranks
from velodrome.search.history import History
from velodrome.search.sequence import needs_space
from velodrome.types import FailureClass, Params, TrialState

_TRIES = 50
_TELLING = (FailureClass.OOM, FailureClass.DIVERGED)


class Entry(NamedTuple):
    """One finished trial."""

    number: int
    params: Params
    scores: Point
    """The goal's metrics, lower is better; infinite where the trial has none."""
    structure: str


class Tried:
    """The finished trials of one study, in order of finishing.

    A trial that ran out of memory or diverged counts as worse than all others; one that failed otherwise tells nothing.

    Args:
        sampler: Whose it is, for the error where there is no space.
    """

    def __init__(self, sampler: str) -> None:
        self.entries: list[Entry] = []
        self._sampler = sampler
        self._history: History | None = None
        self._structures: dict[str, None] = {}
        self._running: list[str] = []
        self._taken = 0

    def update(self, history: History) -> Tried:
        """Takes in what has finished since.

        Raises:
            UsageError: If there is no space.
        """
        if history is not self._history:
            if history.is_define_by_run:
                raise needs_space(self._sampler)
            self._history = history
            self.entries, self._structures, self._taken = [], {}, 0
        directions = history.goal.directions
        for trial in history.finished(self._taken):
            self._taken += 1
            if trial.state is TrialState.FAILED and trial.failure not in _TELLING:
                continue
            values = trial.values if trial.state is not TrialState.FAILED else None
            scores = tuple(
                math.inf if math.isnan(v) else d.score(v)
                for d, v in zip(directions, values or [math.nan] * len(directions), strict=True))
            structure = history.space.structure(trial.params)
            self.entries.append(Entry(trial.number, trial.params, scores, structure))
            self._structures[structure] = None
        self._running = [history.space.structure(s.params) for s in history.running.values()]
        return self

    def knows(self, structure: str) -> bool:
        """Whether a finished or running trial has this structure."""
        return structure in self._structures or structure in self._running

    def fresh(self, make: Callable[[int], Params]) -> Params:
        """The first configuration of a new structure among fifty that ``make(attempt)`` makes; else the last one."""
        assert self._history is not None
        params = make(0)
        for attempt in range(1, _TRIES):
            if not self.knows(self._history.space.structure(params)):
                break
            params = make(attempt)
        return params

    def order(self, entries: list[Entry]) -> list[int]:
        """The places of these entries, best first: by score, of several goals by Pareto rank and crowding (NSGA-II).

        Deb et al. 2002, https://doi.org/10.1109/4235.996017. Equal ones stay in order.
        """
        if entries and len(entries[0].scores) == 1:
            return sorted(range(len(entries)), key=lambda i: entries[i].scores)
        return ranks([entry.scores for entry in entries])
