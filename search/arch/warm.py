"""A warm start: a large random pool, ranked by zero-cost proxies before the first training (``proxies``).

``evolution:warm=params+naswot,pool=1000`` begins with the best of a thousand by the mean of their ranks by both. The
pool and its order depend on the study's seed and the space alone, so a resumed study goes on with the next of them. It
is ranked once, when first asked; torch is loaded for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from velodrome import seeding
from velodrome.errors import UsageError
from velodrome.search.arch.names import BEST_PROXIES, PROXIES
from velodrome.search.options import check_one_of, check_whole
from velodrome.types import Params

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velodrome.search.arch.tried import Tried
    from velodrome.search.space import Space


class Warm:
    """The first configurations of a study, and what its proxies say of others.

    Args:
        sampler: Whose it is, for errors.
        proxies: Some of ``PROXIES`` with ``+`` between, ``"best"`` for those that serve best together, or ``""`` for no
            warm start.
        pool: How many random configurations are ranked.
        seed: Of the pool and of the proxies' random inputs.
    """

    def __init__(self, sampler: str, proxies: str, pool: int, seed: int) -> None:
        check_whole(sampler, "pool", pool, at_least=1)
        names = BEST_PROXIES if proxies == "best" else tuple(str(proxies).split("+")) if proxies else ()
        for name in names:
            check_one_of(sampler, "warm", name, ("best", *PROXIES))
        self.proxies = names
        self._sampler, self._pool, self._seed = sampler, pool, seed
        self._space: Space | None = None
        self._ranked: list[Params] = []
        self._scale: NDArray[np.float64] = np.zeros((0, 0))
        self._figures: dict[str, list[float]] = {}

    def check(self, space: Space) -> None:
        """Raises UsageError if there is to be a warm start, and the space has no net."""
        if self.proxies and not space.nets:
            raise UsageError(f"A warm start of {self._sampler!r} needs a net to score",
                             given=f"warm={'+'.join(self.proxies)}", allowed="a space with a Net")

    def first(self, tried: Tried, space: Space, rng: np.random.Generator) -> Params:
        """A configuration of a new structure before there are results to go by: the best one left of the pool; without
        a warm start, or where the pool is used up, a random one.

        Raises:
            UsageError: If the space has no net, and there is to be a warm start.
            SpaceError: If nothing meets the constraints.
        """
        if self.proxies:
            self._prepare(space)
            for params in self._ranked:
                if not tried.knows(space.structure(params)):
                    return params
        return tried.fresh(lambda _: space.sample(rng))

    def trends(self, space: Space, configurations: Iterable[tuple[str, Params]]) -> NDArray[np.float64]:
        """What the proxies say of configurations, given with their structures: float64 [n, proxies].

        Each figure is the normal quantile of its place in the pool, so that all are on one scale.
        """
        from scipy.special import ndtri  # type: ignore[import-untyped]  # scipy ships no types

        self._prepare(space)
        figures = np.array([self._figures_of(space, key, params) for key, params in configurations])
        count = self._scale.shape[1]
        places = [(np.searchsorted(scale, column, "left") + np.searchsorted(scale, column, "right") + 1) / 2
                  for scale, column in zip(self._scale, figures.T, strict=True)]
        found: NDArray[np.float64] = ndtri(np.stack(places, axis=1) / (count + 1))
        return found

    def _prepare(self, space: Space) -> None:
        if space is self._space:
            return
        self.check(space)
        self._space, self._figures = space, {}
        rng = seeding.generator(self._seed, "warm")
        drawn: dict[str, Params] = {}
        for _ in range(self._pool):
            params = space.sample(rng)
            drawn.setdefault(space.structure(params), params)
        figures = np.array([self._figures_of(space, key, params) for key, params in drawn.items()])
        self._scale = np.sort(figures.T, axis=1)
        means = dict(zip(drawn, _mean_ranks(figures), strict=True))
        self._ranked = [drawn[key] for key in sorted(drawn, key=lambda key: (-means[key], key))]

    def _figures_of(self, space: Space, structure: str, params: Params) -> list[float]:
        from velodrome.search.arch.proxies import score

        if structure not in self._figures:
            self._figures[structure] = [score(space, params, name, seed=self._seed) for name in self.proxies]
        return self._figures[structure]


def _mean_ranks(figures: NDArray[np.float64]) -> list[float]:
    """The mean over columns of each row's rank, higher figures higher."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]  # scipy ships no types

    return rankdata(figures, axis=0).mean(1).tolist()  # type: ignore[no-any-return]
