"""Predictor-guided search: a model of the trials so far picks the most promising of many changes to the good ones.

As BANANAS (White et al. 2021, https://arxiv.org/abs/1910.11858) and NAS-BOWL (Ru et al. 2021,
https://arxiv.org/abs/2006.07556): after a few random trials, changes of the best ones and some random configurations
are scored by the expected improvement that a Gaussian process sees in them (``predictor``), over an encoding of the
nets and the other parameters (``encoding``). Trials that still run count as if they had brought what it expects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from velodrome.search.arch.encoding import ENCODINGS, Features, encode
from velodrome.search.arch.predictor import Predictor, expected_improvement
from velodrome.search.arch.tried import Tried
from velodrome.search.arch.variation import cross, mutate
from velodrome.search.arch.warm import Warm
from velodrome.search.domains import Domain
from velodrome.search.history import History
from velodrome.search.options import check_one_of, check_whole
from velodrome.search.sequence import needs_space
from velodrome.search.space import Space
from velodrome.types import Params, ParamValue, Suggestion

if TYPE_CHECKING:
    import numpy as np
    from threadpoolctl import ThreadpoolController

_PARENTS = 10
_MOST_TRIALS = 500
"""The model is made of the best and the newest so many trials: its cost grows with their cube."""


class PredictorSampler:
    """Predictor-guided search over any space.

    Args:
        start: How many random trials there are before it.
        candidates: How many changes of good trials are scored for each suggestion.
        encoding: ``structure``, ``paths`` or ``adjacency``.
        seed: Of the pool that ``warm`` ranks.
        warm: Zero-cost proxies; the first trials are then the best by them of a random pool (``warm.Warm``).
        pool: The size of the pool.
    """

    def __init__(
        self, start: int = 10, candidates: int = 100, encoding: str = "structure", *, seed: int = 0, warm: str = "",
        pool: int = 1000,
    ) -> None:
        check_whole("predictor", "start", start, at_least=2)
        check_whole("predictor", "candidates", candidates, at_least=1)
        check_one_of("predictor", "encoding", encoding, ENCODINGS)
        self._start, self._candidates, self._encoding = start, candidates, encoding
        self._warm = Warm("predictor", warm, pool, seed)
        self._tried = Tried("predictor")
        self._features: dict[str, Features] = {}

    def check(self, space: Space) -> None:
        """Raises UsageError if there is to be a warm start, and the space has no net."""
        self._warm.check(space)

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """The candidate of the highest expected improvement.

        Raises:
            UsageError: If there is no space.
            SpaceError: If nothing meets the constraints.
        """
        tried, space = self._tried.update(history), history.space
        if len(tried.entries) + len(history.running) < self._start or len(tried.entries) < 2:
            return Suggestion(self._warm.first(tried, space, rng))
        with one_thread():
            params = self._pick(tried, space, [s.params for s in history.running.values()], rng)
        return Suggestion(params if params is not None else tried.fresh(lambda _: space.sample(rng)))

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """Not possible: raises UsageError."""
        raise needs_space("predictor")

    def _pick(
        self, tried: Tried, space: Space, running: Sequence[Params], rng: np.random.Generator
    ) -> Params | None:
        order = tried.order(tried.entries)
        candidates = self._near([tried.entries[i].params for i in order[:_PARENTS]], tried, space, rng)
        if not candidates:
            return None
        kept = sorted({*order[: _MOST_TRIALS // 2], *range(len(order))[-_MOST_TRIALS // 2:]})
        place = {i: float(rank) for rank, i in enumerate(order)}
        is_single = len(tried.entries[0].scores) == 1
        scores = [(tried.entries[i].scores[0] if is_single else place[i]) for i in kept]
        features = [self._encoded(space, tried.entries[i].structure, tried.entries[i].params) for i in kept]
        model = Predictor(features, scores)
        if running:
            pending = [encode(space, params, self._encoding) for params in running]
            expected = model.predict(pending).mean
            finite = [s for s in scores if math.isfinite(s)] or [0.0]
            told = _as_scores(expected.tolist(), finite)
            model = Predictor([*features, *pending], [*scores, *told])
        belief = model.predict([self._encoded(space, key, params) for key, params in candidates.items()])
        best = float(model.predict(features).mean.min())
        return list(candidates.values())[int(expected_improvement(belief, best).argmax())]

    def _near(
        self, parents: Sequence[Params], tried: Tried, space: Space, rng: np.random.Generator
    ) -> dict[str, Params]:
        """Changed and crossed good trials, and a tenth as many random configurations, of new structures."""
        found: dict[str, Params] = {}
        for i in range(self._candidates + self._candidates // 10):
            if i >= self._candidates:
                params = space.sample(rng)
            else:
                params = parents[i % len(parents)]
                if i % 4 == 3:
                    params = cross(params, parents[int(rng.integers(len(parents)))], space, rng)
                params = mutate(params, space, rng, 1 + i % 2)
            structure = space.structure(params)
            if not tried.knows(structure):
                found.setdefault(structure, params)
        return found

    def _encoded(self, space: Space, structure: str, params: Params) -> Features:
        key = structure if self._encoding != "adjacency" else f"{space.key(params)}"
        if key not in self._features:
            if len(self._features) > 20_000:
                self._features.clear()
            self._features[key] = encode(space, params, self._encoding)
        return self._features[key]


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets the linear algebra use one thread: more fight with the workers for cores, and are no faster here."""
    with _pools().limit(limits=1, user_api="blas"):
        yield


@cache
def _pools() -> ThreadpoolController:
    import scipy.linalg  # type: ignore[import-untyped]  # noqa: F401 - its library is to be found, too
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _as_scores(normal: Sequence[float], scores: Sequence[float]) -> list[float]:
    """Scores whose ranks among the others are those of these normal scores."""
    import numpy as np
    from scipy.special import ndtr  # type: ignore[import-untyped]  # scipy ships no types

    return np.quantile(np.asarray(scores), ndtr(np.asarray(normal))).tolist()  # type: ignore[no-any-return]
