"""Small changes to configurations: a mutation of one, a crossing of two. Conditional parameters come and go with them.

They work on any space, for an architecture is nothing but parameters: an operator on an edge, a number of copies, a
learning rate. A choice falls on another option; a number takes a step on its scale. What a change makes active is drawn
at random, and what it makes inactive is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from velodrome.search.domains import Choice, Domain
from velodrome.search.space import Space
from velodrome.types import Params, ParamValue

if TYPE_CHECKING:
    import numpy as np

_TRIES = 200
_SPREAD = 0.15
"""The standard deviation of a number's step, as a part of its scale."""


def mutate(
    params: Params, space: Space, rng: np.random.Generator, changes: int = 1, fixed: Collection[str] = ()
) -> Params:
    """A configuration of the space that differs from ``params`` in ``changes`` parameters, and what hangs on them;
    those that are ``fixed`` stay.

    Where two hundred changes in a row break a constraint, a random configuration.
    """
    for _ in range(_TRIES):
        changed = dict(params)
        for _ in range(changes):
            changed = _changed(changed, space, rng, fixed)
        if space.violated(changed) is None:
            return changed
    return space.sample(rng)


def cross(one: Params, two: Params, space: Space, rng: np.random.Generator) -> Params:
    """A configuration of the space with each parameter from one of two; ``one`` where none meets the constraints."""
    for _ in range(_TRIES):
        found: Params = {}
        for name, domain in active_parameters(space, found):
            givers = [parent[name] for parent in (one, two) if name in parent]
            found[name] = givers[int(rng.integers(len(givers)))] if givers else domain.from_unit(rng.random())
        if space.violated(found) is None:
            return found
    return dict(one)


def neighbours(params: Params, space: Space, rng: np.random.Generator, most: int) -> list[Params]:
    """Configurations that differ in one parameter, in random order, each structure once, at most ``most``.

    A choice gives one for each other option; a number with up to nine values as many, with more two steps at random.
    """
    found: dict[str, Params] = {}
    moves = [(name, value) for name, domain in space.domains.items() if name in params
             for value in _others(domain, params[name], rng)]
    for i in rng.permutation(len(moves)).tolist():
        name, value = moves[i]
        near = with_value(params, space, name, value, rng)
        if space.violated(near) is None:
            found.setdefault(space.structure(near), near)
        if len(found) == most:
            break
    found.pop(space.structure(params), None)
    return list(found.values())


def _changed(params: Params, space: Space, rng: np.random.Generator, fixed: Collection[str]) -> Params:
    """One parameter, each as likely, has another value."""
    names = [name for name, domain in space.domains.items()
             if name in params and name not in fixed and not _is_constant(domain)]
    if not names:
        return params
    name = names[int(rng.integers(len(names)))]
    domain = space.domains[name]
    return with_value(params, space, name, _another(domain, params[name], rng), rng)


def with_value(params: Params, space: Space, name: str, value: ParamValue, rng: np.random.Generator) -> Params:
    """The configuration with another value; new children are drawn, those of before go."""
    changed: Params = {}
    for other, domain in active_parameters(space, changed):
        if other == name:
            changed[other] = value
        else:
            changed[other] = params[other] if other in params else domain.from_unit(rng.random())
    return changed


def active_parameters(space: Space, growing: Params) -> Iterator[tuple[str, Domain]]:
    """The parameters of a configuration, found as it grows: parents come first, and decide on their children."""
    conditions = space.conditions
    for name, domain in space.domains.items():
        if name in conditions:
            parent, options = conditions[name]
            if parent not in growing or not any(_same(growing[parent], option) for option in options):
                continue
        yield name, domain


def _another(domain: Domain, value: ParamValue, rng: np.random.Generator) -> ParamValue:
    """Another value: a choice's other option, a number's near one."""
    if isinstance(domain, Choice):
        here = domain.index(value)
        there = int(rng.integers(len(domain.options) - 1))
        return domain.options[there + (there >= here)]
    for _ in range(_TRIES):
        u = domain.to_unit(value) + _SPREAD * float(rng.standard_normal())
        near = domain.from_unit(-u if u < 0 else 2 - u if u > 1 else u)
        if near != value:
            return near
    return domain.from_unit(rng.random())


def _others(domain: Domain, value: ParamValue, rng: np.random.Generator) -> list[ParamValue]:
    if _is_constant(domain):
        return []
    if isinstance(domain, Choice):
        return [option for option in domain.options if not _same(option, value)]
    count = domain.cardinality
    if count is not None and count <= 9:
        return [v for v in (domain.value_at(i) for i in range(count)) if v != value]
    return [_another(domain, value, rng) for _ in range(2)]


def _is_constant(domain: Domain) -> bool:
    return len(domain.options) == 1 if isinstance(domain, Choice) else domain.cardinality == 1


def _same(a: ParamValue, b: ParamValue) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)
