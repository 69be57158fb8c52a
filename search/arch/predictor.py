"""A Gaussian process over features of configurations: what the trials so far let one expect of others.

The kernel is a squared exponential over the distance of the features. Scores are replaced by the normal quantiles of
their ranks, so that a few networks that failed to train don't drown the differences between good ones. The length scale
and the noise are those of the highest marginal likelihood on a grid (Rasmussen and Williams 2006, ch. 2 and 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from velodrome.search.arch.encoding import Features

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Length scales, as multiples of the median distance."""
NOISES = (0.01, 0.03, 0.1, 0.3)
"""Variances of the noise, as parts of that of the scores."""
_LEAST = 1e-6
"""The least variance of the scores, where all are equal."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What a model expects of some configurations, lower is better.

    Attributes:
        mean: float64 [n].
        deviation: float64 [n].
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


class Predictor:
    """A Gaussian process.

    Args:
        features: Of the trials so far.
        scores: Theirs, lower is better; infinite ones are worst.
    """

    def __init__(self, features: Sequence[Features], scores: Sequence[float]) -> None:
        from scipy.linalg import cho_solve, cholesky  # type: ignore[import-untyped]  # scipy ships no types

        self._columns: dict[object, int] = {}
        for row in features:
            for name in row:
                self._columns.setdefault(name, len(self._columns))
        self._x = _matrix(features, self._columns)
        self._y = normal_scores(scores)
        squares = _squares(self._x, self._x)
        apart = squares[squares > 0]
        self._unit = float(np.median(apart)) if apart.size else 1.0
        n, best = len(scores), -np.inf
        for length, noise in product(LENGTHS, NOISES):
            k = np.exp(-0.5 * squares / (self._unit * length**2))
            factor = cholesky(k + noise * np.eye(n), lower=True)
            alpha = cho_solve((factor, True), self._y)
            variance = max(float(self._y @ alpha) / n, _LEAST)
            evidence = -0.5 * n * np.log(variance) - float(np.log(np.diag(factor)).sum())
            if evidence > best:
                best, self._length, self._variance = evidence, length, variance
                self._factor, self._alpha = factor, alpha

    def predict(self, features: Sequence[Features]) -> Belief:
        """What to expect of other configurations, in normal scores (0 is the middle of the trials so far)."""
        from scipy.linalg import solve_triangular

        columns = dict(self._columns)
        for row in features:
            for name in row:
                columns.setdefault(name, len(columns))
        x = _matrix(features, columns)
        old = np.pad(self._x, ((0, 0), (0, len(columns) - len(self._columns))))
        k = np.exp(-0.5 * _squares(x, old) / (self._unit * self._length**2))
        left: NDArray[Any] = solve_triangular(self._factor, k.T, lower=True)
        spread = np.maximum(1.0 - (left**2).sum(0), 1e-9) * self._variance
        return Belief(k @ self._alpha, np.sqrt(spread))


def expected_improvement(belief: Belief, best: float) -> NDArray[np.float64]:
    """How much lower than ``best`` each is expected to be, counted as zero where it is not (Jones et al. 1998)."""
    from scipy.special import ndtr  # type: ignore[import-untyped]  # scipy ships no types

    z = (best - belief.mean) / belief.deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    improvement: NDArray[np.float64] = belief.deviation * (z * ndtr(z) + density)
    return improvement


def normal_scores(scores: Sequence[float]) -> NDArray[np.float64]:
    """The normal quantiles of the scores' ranks, float64 [n]; equal scores get equal ones."""
    from scipy.special import ndtri
    from scipy.stats import rankdata  # type: ignore[import-untyped]  # scipy ships no types

    n = len(scores)
    quantiles: NDArray[np.float64] = ndtri((rankdata(np.asarray(scores)) - 0.5) / n)
    return quantiles


def _matrix(features: Sequence[Features], columns: dict[object, int]) -> NDArray[np.float64]:
    x = np.zeros((len(features), len(columns)))
    for i, row in enumerate(features):
        for name, value in row.items():
            x[i, columns[name]] = value
    return x


def _squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances [n, m]."""
    squares: NDArray[np.float64] = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.maximum(squares, 0.0)
