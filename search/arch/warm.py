"""A warm start: a large random pool, ranked by zero-cost proxies before the first training (``proxies``).

``evolution:warm=params+naswot,pool=1000`` begins with the best of a thousand by the mean of their ranks by both. The
pool and its order depend on the study's seed and the space alone, so a resumed study goes on with the next of them. It
is ranked once, when first asked; torch is loaded for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from velodrome import seeding
from velodrome.errors import UsageError
from velodrome.search.arch.names import PROXIES
from velodrome.search.options import check_one_of, check_whole
from velodrome.types import Params

if TYPE_CHECKING:
    import numpy as np

    from velodrome.search.arch.tried import Tried
    from velodrome.search.space import Space


class Warm:
    """The first configurations of a study.

    Args:
        sampler: Whose it is, for errors.
        proxies: One of ``PROXIES``, several with ``+`` between, or ``""`` for no warm start.
        pool: How many random configurations are ranked.
        seed: Of the pool and of the proxies' random inputs.
        draw: Draws a configuration of a space, where not all of it is meant.
    """

    def __init__(
        self, sampler: str, proxies: str, pool: int, seed: int,
        draw: Callable[[Space, np.random.Generator], Params] = lambda space, rng: space.sample(rng),
    ) -> None:
        check_whole(sampler, "pool", pool, at_least=1)
        self.proxies = tuple(str(proxies).split("+")) if proxies else ()
        for name in self.proxies:
            check_one_of(sampler, "warm", name, PROXIES)
        self._sampler, self._pool, self._seed, self._draw = sampler, pool, seed, draw
        self._space: Space | None = None
        self._ranked: list[Params] = []

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
        return tried.fresh(lambda _: self._draw(space, rng))

    def _prepare(self, space: Space) -> None:
        if space is self._space:
            return
        from velodrome.search.arch.proxies import score

        self.check(space)
        self._space, rng = space, seeding.generator(self._seed, "warm")
        drawn: dict[str, Params] = {}
        for _ in range(self._pool):
            params = self._draw(space, rng)
            drawn.setdefault(space.structure(params), params)
        ranks = dict(zip(drawn, _mean_ranks([
            [score(space, params, name, seed=self._seed) for params in drawn.values()] for name in self.proxies
        ]), strict=True))
        self._ranked = [drawn[key] for key in sorted(drawn, key=lambda key: (-ranks[key], key))]


def _mean_ranks(figures: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each column's ranks within the rows, higher figures higher."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]  # scipy ships no types

    return rankdata(figures, axis=1).mean(0).tolist()  # type: ignore[no-any-return]
