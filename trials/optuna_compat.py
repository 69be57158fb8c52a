"""What it takes to run an unmodified Optuna objective: its parameters as our domains, its pruning as our verdict.

Optuna itself is never imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from velodrome.types import ParamValue

if TYPE_CHECKING:
    from velodrome.search.domains import Domain


def is_pruned(error: BaseException) -> bool:
    """Whether the exception is ``optuna.TrialPruned`` (or one made from it)."""
    return any(c.__name__ == "TrialPruned" and c.__module__.partition(".")[0] == "optuna" for c in type(error).__mro__)


@lru_cache(maxsize=1024)
def float_domain(name: str, low: float, high: float, step: float | None, log: bool) -> dict[str, Any]:
    """The JSON of a float domain; made once per parameter, and never changed.

    Raises:
        SpaceError: If the range makes no sense.
    """
    from velodrome.search.domains import Float

    return _checked(name, Float(float(low), float(high), log=bool(log), step=None if step is None else float(step)))


@lru_cache(maxsize=1024)
def int_domain(name: str, low: int, high: int, step: int, log: bool) -> dict[str, Any]:
    """The JSON of an integer domain; made once per parameter, and never changed.

    Raises:
        SpaceError: If the range makes no sense.
    """
    from velodrome.search.domains import Int

    return _checked(name, Int(int(low), int(high), log=bool(log), step=int(step)))


def categorical_domain(name: str, codes: tuple[ParamValue, ...]) -> dict[str, Any]:
    """The JSON of a choice among JSON scalars.

    Raises:
        SpaceError: If there is nothing to choose from, or one choice twice.
    """
    from velodrome.search.domains import Choice

    return _checked(name, Choice(*codes))


class Categorical:
    """Optuna's choices, which may be any object, as the JSON scalars that are stored and searched over.

    Attributes:
        codes: One scalar per choice: itself, or its ``repr`` where a choice among them is no plain scalar.
    """

    def __init__(self, choices: Sequence[Any]) -> None:
        self._choices = tuple(choices)
        self._are_scalars = all(type(choice) in _SCALARS for choice in self._choices)
        self.codes: tuple[ParamValue, ...] = self._choices if self._are_scalars else tuple(map(repr, self._choices))

    def decode(self, code: ParamValue) -> Any:
        """The choice behind a code; the code itself where it belongs to none of them."""
        if self._are_scalars or code not in self.codes:
            return code
        return self._choices[self.codes.index(code)]


_SCALARS = (bool, int, float, str, type(None))


def _checked(name: str, domain: Domain) -> dict[str, Any]:
    domain.validate(name)
    return domain.to_json()
