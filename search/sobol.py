"""Scrambled Sobol points: a space covered more evenly than at random (Owen 1998; scipy.stats.qmc).

The first 2**k points are balanced: each dimension's 2**k equal intervals hold one point each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from velodrome import seeding
from velodrome.search.domains import Domain
from velodrome.search.history import History
from velodrome.search.sequence import PointSequence, needs_space
from velodrome.search.space import Space
from velodrome.types import Params, ParamValue, Suggestion

if TYPE_CHECKING:
    import numpy as np

MAX_TRIES = 10_000
"""How many points in a row may break a constraint."""

_BLOCK = 256


class SobolSampler:
    """Trial n gets point n of the sequence, or, where there are constraints, the n-th point that meets them.

    Args:
        seed: Seeds the scrambling: a point depends on this and its number alone.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._space: Space | None = None
        self._sequence: PointSequence

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """The configuration at the next point. ``rng`` is not used.

        Raises:
            UsageError: If there is no space.
            SpaceError: If too few points meet the constraints.
        """
        if history.space is not self._space:
            if history.is_define_by_run:
                raise needs_space("sobol")
            self._space = history.space
            self._sequence = PointSequence(history.space, _Points(history.space, self._seed).point, max_tries=MAX_TRIES)
        return self._sequence.suggest(number, history)

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """Not possible: raises UsageError."""
        raise needs_space("sobol")


class _Points:
    """The sequence over one space, computed block by block."""

    def __init__(self, space: Space, seed: int) -> None:
        from scipy.stats import qmc  # type: ignore[import-untyped]  # scipy ships no types

        self._space = space
        self._engine: Any = qmc.Sobol(len(space), scramble=True, seed=seeding.derive(seed, "sobol"))
        self._block_number = -1
        self._block: list[list[float]]

    def point(self, index: int) -> Params:
        """The configuration at point ``index``."""
        block_number, place = divmod(index, _BLOCK)
        if block_number != self._block_number:
            if block_number != self._block_number + 1:
                self._engine.reset()
                if block_number:
                    self._engine.fast_forward(block_number * _BLOCK)
            self._block = self._engine.random(_BLOCK).tolist()
            self._block_number = block_number
        return self._space.from_unit(self._block[place])
