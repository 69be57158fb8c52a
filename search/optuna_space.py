"""A search space in Optuna's terms: a distribution for each parameter, and groups of those that are active together.

Optuna sees codes: a Float or Int as it is, a Choice as the index of its option, so that ``True`` and ``1`` stay apart.
What Optuna has no distribution for (steps on a logarithmic scale), or what has too many steps for a sampler, it sees
as a number in [0, 1], the parameter's coordinate in the unit cube.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from velodrome.search.domains import Choice, Domain, Float, Int
from velodrome.search.space import Space
from velodrome.types import Params, ParamValue

Code = float | int
"""A parameter's value as Optuna sees it."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How one parameter is told to Optuna."""

    distribution: BaseDistribution
    encode: Callable[[ParamValue], Code]
    decode: Callable[[Code], ParamValue]
    """Always gives a value of the domain."""


@dataclass(frozen=True, slots=True)
class Group:
    """The parameters that exist under one condition; a joint model is made of each group."""

    distributions: dict[str, BaseDistribution]
    """Those with more than one value."""
    constants: Params
    """Those with one value only, which no model needs."""
    parent: str = ""
    """The choice that holds the group; ``""`` for the top level."""
    options: frozenset[int] = frozenset()
    """The codes of the parent's options under which it is active."""


class Layout:
    """A space's codings and groups, computed once per space; ``max_steps`` as for ``coding``."""

    def __init__(self, space: Space, max_steps: float = math.inf) -> None:
        self.space = space
        self.codings = {name: coding(domain, max_steps) for name, domain in space.domains.items()}
        conditions = space.conditions
        members: dict[tuple[str, frozenset[int]], list[str]] = {}
        for name in space.domains:
            parent, options = conditions.get(name, ("", ()))
            codes = frozenset(int(self.codings[parent].encode(option)) for option in options)
            members.setdefault((parent, codes), []).append(name)
        self.groups = tuple(self._group(names, *condition) for condition, names in members.items())
        """Parents come before their children."""

    def encode(self, params: Params) -> dict[str, Code]:
        """A configuration as codes by name."""
        codings = self.codings
        return {name: codings[name].encode(value) for name, value in params.items()}

    def distributions(self, names: Mapping[str, object]) -> dict[str, BaseDistribution]:
        """The distributions of these parameters, as Optuna keeps them with a trial."""
        return {name: self.codings[name].distribution for name in names}

    def _group(self, names: list[str], parent: str, options: frozenset[int]) -> Group:
        domains = self.space.domains
        return Group(
            {name: self.codings[name].distribution for name in names if not is_constant(domains[name])},
            {name: domains[name].from_unit(0.5) for name in names if is_constant(domains[name])},
            parent, options,
        )


def is_constant(domain: Domain) -> bool:
    """Whether the domain has one value only (whatever may be inside it)."""
    return len(domain.options) == 1 if isinstance(domain, Choice) else domain.cardinality == 1


def coding(domain: Domain, max_steps: float = math.inf) -> Coding:
    """How a parameter of this domain is told to Optuna; with more steps than ``max_steps``, by its unit coordinate."""
    if isinstance(domain, Choice):
        return Coding(CategoricalDistribution(range(len(domain.options))), domain.index, domain.decode)
    is_fine = (domain.cardinality or 0) > max_steps
    match domain:
        case Int(log=False) | Int(step=1) if not is_fine:
            last = domain.value_at(domain.cardinality - 1)
            return Coding(IntDistribution(domain.low, last, log=domain.log, step=domain.step), _whole, domain.decode)
        case Float(step=None):
            return Coding(FloatDistribution(domain.low, domain.high, log=domain.log), domain.code, _within(domain))
        case Float(log=False) if not is_fine and _is_exact(domain):
            return _stepped(domain)
    return Coding(FloatDistribution(0.0, 1.0), domain.to_unit, domain.from_unit)


def _within(domain: Float) -> Callable[[Code], ParamValue]:
    low, high = domain.low, domain.high
    return lambda code: min(max(float(code), low), high)  # exp(log(high)) can be a little more than high


def _stepped(domain: Float) -> Coding:
    low, step, count = domain.low, domain.step, domain.cardinality
    assert step is not None
    assert count is not None

    def decode(code: Code) -> ParamValue:
        return domain.value_at(min(max(round((code - low) / step), 0), count - 1))

    return Coding(FloatDistribution(low, domain.value_at(count - 1), step=step), domain.code, decode)


def _is_exact(domain: Float) -> bool:
    """Whether the last step ends on the last value in decimals too: if not, Optuna would shorten the range."""
    assert domain.step is not None
    assert domain.cardinality is not None
    low, last, step = (Decimal(repr(x)) for x in (domain.low, domain.value_at(domain.cardinality - 1), domain.step))
    return (last - low) % step == 0


def _whole(value: ParamValue) -> int:
    assert isinstance(value, int)
    return value
