"""Local search (White et al. 2021, https://arxiv.org/abs/2005.02960): the neighbours of the best, then of the next.

A neighbour differs in one parameter. The best trial that still has neighbours of a new structure is the one to explore,
so the search climbs until nothing near is better, and then goes on around the runners-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from velodrome.search.arch.tried import Tried
from velodrome.search.arch.variation import neighbours
from velodrome.search.arch.warm import Warm
from velodrome.search.domains import Domain
from velodrome.search.history import History
from velodrome.search.options import check_whole
from velodrome.search.sequence import needs_space
from velodrome.search.space import Space
from velodrome.types import ParamValue, Suggestion

if TYPE_CHECKING:
    import numpy as np

_MOST = 256
"""So many neighbours of one trial are looked at."""


class LocalSearchSampler:
    """Local search over any space.

    Args:
        start: How many random trials there are before it.
        seed: Of the pool that ``warm`` ranks.
        warm: Zero-cost proxies; the first trials are then the best by them of a random pool (``warm.Warm``).
        pool: The size of the pool.
    """

    def __init__(self, start: int = 10, *, seed: int = 0, warm: str = "", pool: int = 1000) -> None:
        check_whole("local", "start", start, at_least=1)
        self._start = start
        self._warm = Warm("local", warm, pool, seed)
        self._tried = Tried("local")

    def check(self, space: Space) -> None:
        """Raises UsageError if there is to be a warm start, and the space has no net."""
        self._warm.check(space)

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """A neighbour of a new structure; where there is none left anywhere near, a random configuration.

        Raises:
            UsageError: If there is no space.
            SpaceError: If nothing meets the constraints.
        """
        tried, space = self._tried.update(history), history.space
        if len(tried.entries) + len(history.running) < self._start or not tried.entries:
            return Suggestion(self._warm.first(tried, space, rng))
        for i in tried.order(tried.entries)[: self._start]:
            for near in neighbours(tried.entries[i].params, space, rng, _MOST):
                if not tried.knows(space.structure(near)):
                    return Suggestion(near)
        return Suggestion(tried.fresh(lambda _: space.sample(rng)))

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """Not possible: raises UsageError."""
        raise needs_space("local")
