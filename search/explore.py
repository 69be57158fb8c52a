"""What population based training tries next: a good trial's configuration, changed a little (Jaderberg et al. 2017).

A number is multiplied by 0.8 or 1.2, or drawn anew; nothing ever leaves its domain, and where a choice falls on
another option, the parameters inside that are drawn and those of the old one are dropped.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from velodrome.search.domains import Choice, Domain
from velodrome.search.numeric import Float, Int
from velodrome.search.space import Space
from velodrome.types import Params, ParamValue

if TYPE_CHECKING:
    import numpy as np

FACTORS = (0.8, 1.2)
_TRIES = 100


def explore(
    params: Params, space: Space, rng: np.random.Generator, *, names: Collection[str], resample: float
) -> Params:
    """A configuration of the space near ``params``; the same one where a hundred changes break a constraint.

    Args:
        params: A configuration of the space.
        space: The space.
        rng: Chance.
        names: What may change. A choice that is among them changes only by being drawn anew.
        resample: How likely each of them is drawn anew, in [0, 1].
    """
    for _ in range(_TRIES):
        changed = _changed(params, space, rng, names, resample)
        if space.violated(changed) is None:
            return changed
    return dict(params)


def perturbed(domain: Float | Int, value: float, factor: float) -> int | float:
    """The value times the factor, kept in the domain; where steps are coarse, at least one step away if there is room.

    >>> perturbed(Float(0.001, 0.1), 0.09, 1.2), perturbed(Int(1, 12), 2, 1.2), perturbed(Int(1, 12), 1, 0.8)
    (0.1, 3, 1)
    """
    target = value * factor
    if isinstance(domain, Float) and domain.step is None:
        return min(max(target, domain.low), domain.high)
    step, last = float(domain.step or 1), (domain.cardinality or 1) - 1
    before = round((value - domain.low) / step)
    index = round((target - domain.low) / step)
    if index == before and target != value:
        index += 1 if target > value else -1
    return domain.value_at(min(max(index, 0), last))


def _changed(
    params: Params, space: Space, rng: np.random.Generator, names: Collection[str], resample: float
) -> Params:
    conditions, changed = space.conditions, Params()
    for name, domain in space.domains.items():  # children come after their parents
        if name in conditions:
            parent, options = conditions[name]
            if not any(parent in changed and _same(changed[parent], option) for option in options):
                continue
        if name not in params:
            changed[name] = domain.from_unit(rng.random())
        elif name not in names:
            changed[name] = params[name]
        else:
            changed[name] = _next(domain, params[name], rng, resample)
    return changed


def _next(domain: Domain, value: ParamValue, rng: np.random.Generator, resample: float) -> ParamValue:
    if rng.random() < resample:
        return domain.from_unit(rng.random())
    if isinstance(domain, Choice) or not isinstance(value, int | float):
        return value
    return perturbed(domain, value, FACTORS[int(rng.integers(2))])


def _same(a: ParamValue, b: ParamValue) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)
