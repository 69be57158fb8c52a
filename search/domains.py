"""What a parameter can be: ``Float``, ``Int`` or ``Choice``. A ``Choice`` can hold further parameters in its branches.

>>> Choice("relu", "gelu").from_unit(0.7)
'gelu'
>>> Choice(adam={"beta1": Float(0.8, 0.99)}, sgd={"momentum": Float(0.0, 0.99)}).children()
{'beta1': (Float(0.8, 0.99), (0,)), 'momentum': (Float(0.0, 0.99), (1,))}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from velodrome.errors import SpaceError
from velodrome.search.numeric import Float, Int
from velodrome.search.problems import Problem, raise_problem, raise_value
from velodrome.types import ParamValue

if TYPE_CHECKING:
    from velodrome.search.arch.net import Net

__all__ = ["Choice", "Domain", "Float", "Int", "domain_from_json", "flat", "hull", "is_net", "read_domain"]

Branch: TypeAlias = tuple[tuple[str, "Domain"], ...]
"""The parameters inside one option, in order."""


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class Choice:
    """One of several options, without an order.

    Args:
        options: JSON scalars: bool, int, float, str or None. ``True`` and ``1`` are two options, ``1`` and ``1.0`` one.
        branches: Options by keyword, each with the parameters (name to domain) that exist only where it is chosen. A
            net among them stands for all its parameters. Two branches can share a name if its domain is the same: then
            it is one parameter, active under both.
    """

    options: tuple[ParamValue, ...]
    branches: tuple[Branch, ...]
    """The parameters inside each option; parallel to ``options``."""
    given: tuple[tuple[tuple[str, Domain | Net], ...], ...]
    """The same as they were given, with nets in one piece."""
    problem: Problem | None = field(init=False)
    _index: dict[tuple[bool, ParamValue], int] = field(init=False)

    def __init__(self, /, *options: ParamValue, **branches: Mapping[str, Domain]) -> None:
        put = object.__setattr__
        problem = _choice_problem(options, branches)
        put(self, "options", options + tuple(branches))
        put(self, "problem", problem)
        inside = [] if problem else list(branches.values())
        self._put_branches([{}] * (len(self.options) - len(inside)) + inside)
        put(self, "_index", {} if problem else {_key(o): i for i, o in enumerate(self.options)})

    @classmethod
    def of(cls, options: Sequence[ParamValue], branches: Sequence[Mapping[str, Domain | Net]]) -> Choice:
        """A choice whose options with parameters inside need not be texts; ``branches`` is parallel to ``options``."""
        choice = cls(*options)
        if choice.problem is None:
            object.__setattr__(choice, "problem", _branch_problem(zip(choice.options, branches, strict=True)))
        if choice.problem is None:
            choice._put_branches(branches)
        return choice

    def _put_branches(self, branches: Sequence[Mapping[str, Any]]) -> None:
        put = object.__setattr__
        put(self, "branches", tuple(
            tuple((inner, d) for name, domain in branch.items() for inner, d in flat(name, domain).items())
            for branch in branches))
        put(self, "given", tuple(tuple(branch.items()) for branch in branches))

    @property
    def _identity(self) -> tuple[object, ...]:
        return tuple((type(o), o) for o in self.options), self.given

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Choice) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        parts = []
        for option, branch in zip(self.options, self.given, strict=False):
            inside = ", ".join(f"{name!r}: {domain!r}" for name, domain in branch)
            parts.append(f"{option}={{{inside}}}" if branch else repr(option))
        return f"Choice({', '.join(parts)})"

    @property
    def cardinality(self) -> int | None:
        """The number of values, counted with all that can be inside them; None where it has no end."""
        total = 0
        for branch in self.branches:
            counts = [domain.cardinality for _, domain in branch]
            if None in counts:
                return None
            total += math.prod(c for c in counts if c is not None)
        return total

    def children(self) -> dict[str, tuple[Domain, tuple[int, ...]]]:
        """The parameters inside: name to domain and the indices of the options under which it is active."""
        found: dict[str, tuple[Domain, tuple[int, ...]]] = {}
        for i, branch in enumerate(self.branches):
            for name, domain in branch:
                _, active = found.get(name, (domain, ()))
                found[name] = (domain, (*active, i))
        return found

    def validate(self, name: str) -> None:
        """Raises SpaceError, with the parameter's name, if the domain or one inside it makes no sense."""
        if self.problem is not None:
            raise_problem(name, self, self.problem)
        for branch in self.given:
            for child, net in branch:
                if is_net(net):
                    net.validate(f"{name}.{child}")
        seen: dict[str, tuple[ParamValue, Domain]] = {}
        for option, branch in zip(self.options, self.branches, strict=True):
            for child, domain in branch:
                domain.validate(f"{name}.{child}")
                other, known = seen.setdefault(child, (option, domain))
                if known != domain:
                    given = f"{known!r} where {name} is {other!r}, {domain!r} where it is {option!r}"
                    raise SpaceError(f"Parameter {name + '.' + child!r} has two domains", given=given,
                                     allowed="the same domain, or two names")

    def from_unit(self, u: float) -> ParamValue:
        """The option at ``u`` in [0, 1]; every option has the same share."""
        count = len(self.options)
        return self.options[min(max(int(u * count), 0), count - 1)]

    def to_unit(self, value: ParamValue) -> float:
        """The middle of the option's share of [0, 1]."""
        return (self.index(value) + 0.5) / len(self.options)

    def index(self, value: ParamValue) -> int:
        """The place of an option, from 0.

        Raises:
            KeyError: If it is none of them.
        """
        return self._index[_key(value)]

    def contains(self, value: object) -> bool:
        """Whether this is one of the options."""
        return isinstance(value, bool | int | float | str | None) and _key(value) in self._index

    def check(self, name: str, value: object) -> None:
        """Raises SpaceError if the value is not one of the options."""
        if not self.contains(value):
            raise_value(name, value, self)

    def code(self, value: ParamValue) -> float:
        """The place of an option as a float64."""
        return float(self._index[_key(value)])

    def decode(self, code: float) -> ParamValue:
        """The option that ``code`` stands for."""
        return self.options[int(code)]

    def to_json(self) -> dict[str, Any]:
        """The domain as JSON; ``branches`` is parallel to ``options`` and absent where all are empty."""
        data: dict[str, Any] = {"type": "choice", "options": list(self.options)}
        if any(self.branches):
            data["branches"] = [{name: domain.to_json() for name, domain in branch} for branch in self.given]
        return data


Domain = Float | Int | Choice
"""What a parameter can be."""


def is_net(domain: object) -> bool:
    """Whether this is a ``Net``: an architecture, which stands for all its parameters."""
    return not isinstance(domain, Float | Int | Choice) and hasattr(domain, "graph")


def flat(name: str, domain: Domain | Net) -> dict[str, Domain]:
    """The parameters of a domain: itself, or those of a net under its name."""
    if isinstance(domain, Float | Int | Choice):
        return {name: domain}
    return {f"{name}.{inner}" if inner else name: found for inner, found in domain.domains().items()}


def read_domain(data: Mapping[str, Any], name: str) -> Domain | Net:
    """The domain or the net that ``to_json`` wrote. ``name`` is the parameter's, for errors.

    Raises:
        SpaceError: If the JSON describes none, or one that makes no sense.
    """
    if isinstance(data, Mapping) and data.get("type") == "net":
        from velodrome.search.arch.net import net_from_json

        return net_from_json(data, name)
    return domain_from_json(data, name)


def domain_from_json(data: Mapping[str, Any], name: str = "") -> Domain:
    """The domain that ``to_json`` wrote. ``name`` is the parameter's, for errors.

    Raises:
        SpaceError: If the JSON describes no domain, or one that makes no sense.
    """
    domain = _read(data, name)
    domain.validate(name)
    return domain


def hull(name: str, old: Domain, new: Domain) -> Domain:
    """A domain that holds the values of two: a parameter that a define-by-run objective asked for with both.

    Ranges may differ from trial to trial; the kind of domain, its scale and the options of a choice may not (this is
    Optuna's rule too).

    Raises:
        SpaceError: If the two contradict each other.
    """
    if old == new:
        return old
    if isinstance(old, Int) and isinstance(new, Int) and old.log == new.log:
        step = math.gcd(old.step, new.step, new.low - old.low)
        return Int(min(old.low, new.low), max(old.high, new.high), log=old.log, step=step)
    if isinstance(old, Float) and isinstance(new, Float) and old.log == new.log:
        low, high = min(old.low, new.low), max(old.high, new.high)
        aligned = old.step == new.step and old.contains(min(max(new.low, old.low), old.high))
        stepped = Float(low, high, log=old.log, step=old.step if aligned else None)
        return stepped if stepped.contains(old.low) and stepped.contains(new.low) else Float(low, high, log=old.log)
    raise SpaceError(
        f"Parameter {name!r} was asked for with another domain before", given=repr(new), allowed=repr(old),
        hint="give it another name, or keep the kind of domain, its log and its options the same in every trial",
    )


def _key(option: ParamValue) -> tuple[bool, ParamValue]:
    """What tells options apart: Python takes True and 1 for equal, this does not."""
    return isinstance(option, bool), option


def _choice_problem(options: tuple[Any, ...], branches: Mapping[str, Any]) -> Problem | None:
    if not options and not branches:
        return "it has no options", "one option or more, as in Choice('relu', 'gelu')"
    for option in options:
        if isinstance(option, list | tuple | set):
            return f"its option {option!r} is a collection", "the options one by one, as in Choice('relu', 'gelu')"
        if not isinstance(option, bool | int | float | str | None) or (
                isinstance(option, float) and not math.isfinite(option)):
            return f"its option {option!r} is no JSON value", "bool, int, finite float, str or None"
    seen: set[tuple[bool, ParamValue]] = set()
    for option in options + tuple(branches):
        if _key(option) in seen:
            return f"its option {option!r} is there twice", "each option once"
        seen.add(_key(option))
    return _branch_problem(branches.items())


def _branch_problem(branches: Iterable[tuple[ParamValue, Any]]) -> Problem | None:
    for option, branch in branches:
        if not isinstance(branch, Mapping):
            return (f"its branch {option!r} is no mapping",
                    "names and domains, as in Choice(adam={'beta1': Float(0.8, 0.99)})")
        for child, domain in branch.items():
            if not isinstance(child, str) or not child:
                return f"its branch {option!r} has the name {child!r}", "names that are texts and not empty"
            if not isinstance(domain, Float | Int | Choice) and not is_net(domain):
                return f"in its branch {option!r}, {child!r} is no domain", "Float, Int, Choice or Net"
    return None


def _read_inner(data: Mapping[str, Any], name: str) -> Domain | Net:
    return read_domain(data, name) if data.get("type") == "net" else _read(data, name)


def _read(data: Mapping[str, Any], name: str) -> Domain:
    try:
        match data["type"]:
            case "float":
                return Float(data["low"], data["high"], log=data.get("log", False), step=data.get("step"))
            case "int":
                return Int(data["low"], data["high"], log=data.get("log", False), step=data.get("step", 1))
            case "choice":
                branches = data.get("branches") or [{}] * len(data["options"])
                inside = [{k: _read_inner(d, f"{name}.{k}") for k, d in branch.items()} for branch in branches]
                return Choice.of(data["options"], inside)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise SpaceError(
        f"Parameter {name!r} is not described as a domain", given=repr(data),
        allowed='{"type": "float" or "int", "low": ..., "high": ...} or {"type": "choice", "options": [...]}',
    )
