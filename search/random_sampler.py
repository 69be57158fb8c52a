"""Random search (Bergstra and Bengio 2012, https://www.jmlr.org/papers/v13/bergstra12a.html)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velodrome.search.domains import Domain
from velodrome.search.history import History
from velodrome.types import ParamValue, Suggestion

if TYPE_CHECKING:
    import numpy as np


class RandomSampler:
    """Draws every configuration anew, uniform over the space's unit cube where its constraints hold."""

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """A random configuration.

        Raises:
            SpaceError: If nothing meets the constraints.
        """
        return Suggestion({} if history.is_define_by_run else history.space.sample(rng))

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """A random value of the domain."""
        domain.validate(name)
        return domain.from_unit(rng.random())
