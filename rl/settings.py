"""Settings of an algorithm: a frozen dataclass whose every field has a default, an explanation and its domains.

::

    @dataclass(frozen=True, slots=True)
    class Config:
        lr: float = setting(3e-4, "Adam's learning rate.", Float(0.0, 1.0), search=Float(1e-5, 1e-2, log=True))

``read`` takes what a person wrote (``-p lr=1e-3``) and refuses what makes no sense, ``space_of`` makes the search space
in which fixed settings are choices of one option, so that a query sees them as parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

from velodrome.errors import SpaceError, UsageError, nearest
from velodrome.search.domains import Choice, Domain, Float, Int
from velodrome.types import ParamValue

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a setting.

    Attributes:
        doc: What it does, with its unit.
        allowed: The values that make sense.
        search: Where a sweep looks by default; None where it leaves the setting alone.
    """

    doc: str
    allowed: Domain
    search: Domain | None


def setting(default: ParamValue, doc: str, allowed: Domain, *, search: Domain | None = None) -> Any:
    """A field of a config."""
    return field(default=default, metadata={"about": About(doc, allowed, search)})


def about(config: type[Any]) -> dict[str, About]:
    """Each setting of a config by name, in order."""
    return {f.name: f.metadata["about"] for f in fields(config)}


def rows(config: type[Any]) -> list[tuple[str, ParamValue, About]]:
    """Name, default and explanation of each setting."""
    return [(f.name, _default(f), f.metadata["about"]) for f in fields(config)]


def read(config: type[Any], values: Mapping[str, Any]) -> dict[str, ParamValue]:
    """The settings, each a value or its text, as values of their domains.

    Raises:
        UsageError: For a name that the config does not have, or a value that is not allowed.
    """
    known = about(config)
    for name in values:
        if name not in known:
            raise unknown(name, known)
    return {name: fitting(name, value, known[name].allowed) for name, value in values.items()}


def checked(config: type[T], values: Mapping[str, Any]) -> T:
    """The config with these settings, the others at their defaults.

    Raises:
        UsageError: As for ``read``.
    """
    return config(**read(config, values))


def space_of(
    config: type[Any], fixed: Mapping[str, ParamValue], *, search: bool = False
) -> dict[str, Domain]:
    """Each setting's domain: its search domain if ``search`` and it is not in ``fixed``, otherwise its one value."""
    domains: dict[str, Domain] = {}
    for f in fields(config):
        known: About = f.metadata["about"]
        look = search and f.name not in fixed and known.search is not None
        domains[f.name] = known.search if look and known.search else Choice(fixed.get(f.name, _default(f)))
    return domains


def unknown(name: str, options: Iterable[str]) -> UsageError:
    """The error for a setting that does not exist."""
    names = list(options)
    return UsageError("There is no such setting", given=repr(name), allowed=", ".join(names),
                      hint=nearest(name, names) or "velo train --help")


def fitting(name: str, value: Any, allowed: Domain) -> ParamValue:
    """The value, from text where it is one, in its domain.

    Raises:
        UsageError: If it is not allowed.
    """
    try:
        plain = _read(value, allowed)
        allowed.check(name, plain)
    except (SpaceError, ValueError, TypeError, OverflowError):
        allows = _described(allowed)
        raise UsageError(f"The setting {name!r} can't be that", given=repr(value), allowed=allows) from None
    return plain


def _read(value: Any, allowed: Domain) -> ParamValue:
    if isinstance(allowed, Choice):
        return next((option for option in allowed.options if str(option).lower() == str(value).lower()), value)
    if isinstance(allowed, Float):
        if isinstance(value, bool):
            raise TypeError("a bool is no number")
        return float(value)
    if isinstance(value, str):
        value = float(value) if any(c in value for c in ".eE") else int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    plain: ParamValue = value
    return plain


def _described(allowed: Domain) -> str:
    match allowed:
        case Choice():
            return ", ".join(str(option) for option in allowed.options)
        case Int():
            return f"a whole number from {allowed.low:,} to {allowed.high:,}"
        case _:
            return f"a number from {allowed.low:g} to {allowed.high:g}"


def _default(f: Field[Any]) -> ParamValue:
    value: Any = f.default
    plain: ParamValue = value
    return plain
