"""Regularised evolution (Real et al. 2019, https://arxiv.org/abs/1802.01548): the oldest dies, a good one has a child.

The population is the last ``population`` trials to finish. Of ``sample`` of them, drawn at random, the best is changed
in one parameter; with the probability ``crossover`` it is crossed with the second best first. With several goals the
population is the best trials so far by Pareto rank and crowding instead (NSGA-II). A child whose structure was tried,
isomorphic nets included, is drawn again, with more changes by and by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from velodrome.search.arch.tried import Entry, Tried
from velodrome.search.arch.variation import cross, mutate
from velodrome.search.arch.warm import Warm
from velodrome.search.domains import Domain
from velodrome.search.history import History
from velodrome.search.options import check_part, check_whole
from velodrome.search.sequence import needs_space
from velodrome.search.space import Space
from velodrome.types import Params, ParamValue, Suggestion

if TYPE_CHECKING:
    import numpy as np


class EvolutionSampler:
    """Evolution over any space.

    Args:
        population: How many trials live; so many begin at random.
        sample: How many of them compete to be a parent.
        crossover: How likely a child has two parents.
        seed: Of the pool that ``warm`` ranks.
        warm: Zero-cost proxies; the first trials are then the best by them of a random pool (``warm.Warm``).
        pool: The size of the pool.
    """

    def __init__(
        self, population: int = 10, sample: int = 5, crossover: float = 0.0, *, seed: int = 0, warm: str = "",
        pool: int = 1000,
    ) -> None:
        check_whole("evolution", "population", population, at_least=2)
        check_whole("evolution", "sample", sample, at_least=1)
        check_part("evolution", "crossover", crossover, most=1)
        self._population, self._sample, self._crossover = population, sample, crossover
        self._warm = Warm("evolution", warm, pool, seed)
        self._tried = Tried("evolution")

    def check(self, space: Space) -> None:
        """Raises UsageError if there is to be a warm start, and the space has no net."""
        self._warm.check(space)

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """A child of a good trial; at first a random configuration, or the next best of the warm pool.

        Raises:
            UsageError: If there is no space.
            SpaceError: If nothing meets the constraints.
        """
        tried, space = self._tried.update(history), history.space
        begun = len(tried.entries) + len(history.running)
        if begun < self._population or not tried.entries:
            return Suggestion(self._warm.first(tried, space, rng))
        population = self._living(tried)

        def child(attempt: int) -> Params:
            drawn = rng.choice(len(population), min(self._sample, len(population)), replace=False).tolist()
            best = tried.order([population[i] for i in sorted(drawn)])
            parents = [population[sorted(drawn)[i]].params for i in best[:2]]
            params = parents[0]
            if rng.random() < self._crossover:
                params = cross(parents[0], parents[-1], space, rng)
            return mutate(params, space, rng, 1 + attempt // 10)

        return Suggestion(tried.fresh(child))

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """Not possible: raises UsageError."""
        raise needs_space("evolution")

    def _living(self, tried: Tried) -> list[Entry]:
        if len(tried.entries[0].scores) == 1:
            return tried.entries[-self._population:]
        return [tried.entries[i] for i in tried.order(tried.entries)[: self._population]]
