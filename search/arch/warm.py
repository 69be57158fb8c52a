"""A warm start: a large random pool, ranked by a zero-cost proxy before the first training (``proxies``).

``evolution:warm=synflow,pool=1000`` begins with the best of a thousand. The pool and its order depend on the study's
seed and the space alone, so a resumed study goes on with the next of them. It is ranked once, when first asked; torch
is loaded for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from velodrome import seeding
from velodrome.errors import UsageError
from velodrome.search.arch.names import PROXIES
from velodrome.search.options import check_one_of, check_whole
from velodrome.types import Params

if TYPE_CHECKING:
    from velodrome.search.arch.tried import Tried
    from velodrome.search.space import Space


class Warm:
    """The first configurations of a study.

    Args:
        sampler: Whose it is, for errors.
        proxy: One of ``PROXIES``, or ``""`` for no warm start.
        pool: How many random configurations are ranked.
        seed: Of the pool and of the proxy's random inputs.
    """

    def __init__(self, sampler: str, proxy: str, pool: int, seed: int) -> None:
        check_whole(sampler, "pool", pool, at_least=1)
        check_one_of(sampler, "warm", proxy, ("", *PROXIES))
        self._sampler, self._proxy, self._pool, self._seed = sampler, proxy, pool, seed
        self._space: Space | None = None
        self._ranked: list[Params] = []

    def next(self, tried: Tried, space: Space) -> Params | None:
        """The best of the pool whose structure is new; None without a warm start, or where the pool is used up.

        Raises:
            UsageError: If the space has no net.
        """
        if not self._proxy:
            return None
        if space is not self._space:
            self._space, self._ranked = space, self._rank(space)
        return next((params for params in self._ranked if not tried.knows(space.structure(params))), None)

    def _rank(self, space: Space) -> list[Params]:
        from velodrome.search.arch.proxies import score

        if not space.nets:
            raise UsageError(f"A warm start of {self._sampler!r} needs a net to score", given=f"warm={self._proxy}",
                             allowed="a space with a Net")
        rng = seeding.generator(self._seed, "warm")
        drawn: dict[str, Params] = {}
        for _ in range(self._pool):
            params = space.sample(rng)
            drawn.setdefault(space.structure(params), params)
        scores = {key: score(space, params, self._proxy, seed=self._seed) for key, params in drawn.items()}
        return [drawn[key] for key in sorted(drawn, key=lambda key: (-scores[key], key))]
