"""The parameters of a space as columns: those at the top level and those inside their options, after their parents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from velodrome.errors import SpaceError
from velodrome.search.domains import Choice, Domain, Float, Int, flat, is_net
from velodrome.types import Params, ParamValue

if TYPE_CHECKING:
    from velodrome.search.arch.net import Net


class Column(NamedTuple):
    """One parameter: where it stands among its parents."""

    name: str
    domain: Domain
    parent: int
    """The column of the choice that holds it; -1 for none."""
    active: tuple[int, ...]
    """The indices of the parent's options under which it exists."""

    def options_of(self, parent: Column) -> tuple[ParamValue, ...]:
        """The parent's options under which it exists."""
        assert isinstance(parent.domain, Choice)
        return tuple(parent.domain.options[i] for i in self.active)


def top_level(domains: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Domain | Net]:
    """The domains and nets that a space is made of, checked.

    Raises:
        SpaceError: If a name or a domain makes no sense.
    """
    if not isinstance(domains, Mapping):
        raise SpaceError("A space is made of no mapping", given=repr(domains),
                         allowed="names and domains, as in Space(lr=Float(1e-5, 0.1))")
    for name in named:
        if name in domains:
            raise SpaceError(f"Parameter {name!r} is there twice", given=f"{domains[name]!r}, {named[name]!r}",
                             allowed="each name once")
    roots = {**domains, **named}
    for name, domain in roots.items():
        if not isinstance(name, str) or not name:
            raise SpaceError("A parameter's name is no text, or empty", given=repr(name), allowed="text, such as 'lr'")
        if not isinstance(domain, Float | Int | Choice) and not is_net(domain):
            options = f"Choice({', '.join(map(repr, domain))})" if isinstance(domain, list | tuple) else ""
            raise SpaceError(f"Parameter {name!r} has no domain", given=repr(domain),
                             allowed="Float, Int, Choice or Net", hint=options)
        domain.validate(name)
    return roots


def flattened(roots: Mapping[str, Domain | Net]) -> list[Column]:
    """All parameters, children after their parents.

    Raises:
        SpaceError: If two of them have the same flat name.
    """
    columns: list[Column] = []
    taken: set[str] = set()

    def add(name: str, domain: Domain, parent: int, active: tuple[int, ...]) -> None:
        if name in taken:
            raise SpaceError(f"Two parameters are called {name!r}", given=repr(domain), allowed="each flat name once",
                             hint="a parameter inside a choice is called CHOICE.NAME; rename one of the two")
        taken.add(name)
        columns.append(Column(name, domain, parent, active))
        if isinstance(domain, Choice):
            here = len(columns) - 1
            for child, (inner, options) in domain.children().items():
                add(f"{name}.{child}", inner, here, options)

    for root, whole in roots.items():
        for name, domain in flat(root, whole).items():
            add(name, domain, -1, ())
    return columns


def decoded(columns: Sequence[Column], u: Sequence[float]) -> Params:
    """The configuration at a point of the unit cube [d], d the number of columns."""
    params: Params = {}
    picked: dict[int, int] = {}
    for i, (name, domain, parent, active) in enumerate(columns):
        if parent < 0 or picked.get(parent) in active:
            value = params[name] = domain.from_unit(u[i])
            if isinstance(domain, Choice):
                picked[i] = domain.index(value)
    return params


def checked(columns: Sequence[Column], params: Mapping[str, object]) -> Params:
    """The same values, of which each is now known to be one of its domain. Names that are no column's are left out.

    Raises:
        SpaceError: If a parameter is missing, is not active, or has a value outside its domain.
    """
    valid: Params = {}
    picked: dict[int, int] = {}
    for i, column in enumerate(columns):
        name, domain, parent, active = column
        if parent >= 0 and picked.get(parent) not in active:
            if name in params:
                above = columns[parent]
                options = " or ".join(map(repr, column.options_of(above)))
                raise SpaceError(f"Parameter {name!r} is not active here", given=repr(dict(params)),
                                 allowed=f"{name!r} only where {above.name} is {options}")
            continue
        if name not in params:
            raise SpaceError(f"Parameter {name!r} is missing", given=repr(dict(params)), allowed=repr(domain))
        value = params[name]
        domain.check(name, value)
        valid[name] = value  # type: ignore[assignment]  # the domain has just checked it
        if isinstance(domain, Choice):
            picked[i] = domain.index(valid[name])
    return valid


def has_net(domain: Domain | Net) -> bool:
    """Whether it is a net, or a choice with one inside."""
    if isinstance(domain, Choice):
        return any(has_net(inner) for branch in domain.given for _, inner in branch)
    return is_net(domain)


def hash_of(name: str) -> int:
    """A hash of a name in [0, 2**64), the same on every machine."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def listed(names: Iterable[str]) -> str:
    """The names of a space's parameters, as an error lists them."""
    return ", ".join(names) or "(none: the space is empty)"
