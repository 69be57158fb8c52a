"""Several goals for a sampler that knows one: each trial weighs them anew (ParEGO, Knowles 2006).

``--sampler scalar:sampler=gp`` asks ``gp`` for the next trial of a study of one goal, the augmented Chebyshev sum
``max_j w_j z_j + 0.05 sum_j w_j z_j`` (https://doi.org/10.1109/TEVC.2005.851274): ``z_j`` is goal j between the best
(0) and the worst (1) that was seen, and the weights are drawn for each trial, evenly over all that sum up to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from velodrome.search.domains import Domain
from velodrome.search.history import History
from velodrome.search.sampler import Sampler
from velodrome.search.sequence import needs_space
from velodrome.types import Direction, Goal, ParamValue, Suggestion

if TYPE_CHECKING:
    import numpy as np

_SHARE = 0.05
_ONE = Goal((Direction.MINIMIZE,), ("scalar",))


class ScalarizedSampler:
    """Another sampler, over one goal made of several.

    Args:
        make: Makes that sampler; it is made anew for each trial, for its goal is another one each time.
    """

    def __init__(self, make: Callable[[], Sampler]) -> None:
        make()  # a wrong name or option is to be known at once
        self._make = make

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """What the other sampler suggests for this trial's weights.

        Raises:
            UsageError: If there is no space, or the other sampler refuses.
        """
        if history.is_define_by_run:
            raise needs_space("scalar")
        weights = rng.dirichlet([1.0] * len(history.goal.metrics)).tolist()
        return self._make().suggest(number, scalarized(history, weights), rng)

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """Not possible: raises UsageError."""
        raise needs_space("scalar")


def scalarized(history: History, weights: list[float]) -> History:
    """The same trials with one goal, to be minimised: the augmented Chebyshev sum of all. NaN and infinity stay so."""
    directions = history.goal.directions
    scores = [[d.score(v) for d, v in zip(directions, row, strict=True)] for row in history.values.tolist()]
    finite = [row for row in scores if all(map(math.isfinite, row))]
    lows = [min(column) for column in zip(*finite, strict=True)]
    spans = [max(column) - low for column, low in zip(zip(*finite, strict=True), lows, strict=True)]
    found = History(history.space, _ONE)
    for trial, row in zip(history.finished(), scores, strict=True):
        value = None
        if trial.values is not None:
            value = (_sum(row, lows, spans, weights) if all(map(math.isfinite, row)) else math.inf,)
        found.start(trial.number, Suggestion(trial.params, dict(trial.attrs)))
        found.finish(trial.number, trial.state, value, trial.step, trial.failure)
    for number, suggestion in history.running.items():
        found.start(number, suggestion)
    return found


def _sum(row: list[float], lows: list[float], spans: list[float], weights: list[float]) -> float:
    terms = [w * (x - low) / span if span else 0.0
             for w, x, low, span in zip(weights, row, lows, spans, strict=True)]
    return max(terms) + _SHARE * sum(terms)
