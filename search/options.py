"""Samplers and schedulers as text: ``"asha:min_steps=1,reduction=3"`` is a name and its options."""

from __future__ import annotations

import re
from collections.abc import Sequence

from velodrome.errors import UsageError, nearest
from velodrome.types import ParamValue

_CONSTANTS: dict[str, ParamValue] = {"true": True, "false": False, "none": None}


def parse(text: str) -> tuple[str, dict[str, ParamValue]]:
    """The name and the options that a text such as ``"tpe:n_startup_trials=20,multivariate=false"`` means.

    >>> parse("asha:min_steps=1,reduction=3")
    ('asha', {'min_steps': 1, 'reduction': 3})

    Raises:
        UsageError: If an option is not ``KEY=VALUE``, or is there twice.
    """
    name, _, rest = text.strip().partition(":")
    options: dict[str, ParamValue] = {}
    for part in filter(None, (p.strip() for p in rest.split(","))):
        key, equals, value = (p.strip() for p in part.partition("="))
        if not (key and equals and value):
            raise UsageError(f"An option of {name!r} is not understood", given=repr(part),
                             allowed=f"{name}:KEY=VALUE,KEY=VALUE")
        if key in options:
            raise UsageError(f"An option of {name!r} is there twice", given=repr(text), allowed="each option once")
        options[key] = _value(value)
    return name.strip().lower(), options


def check_whole(owner: str, name: str, value: object, *, at_least: int) -> None:
    """Raises UsageError if an option of ``owner`` is not a whole number of ``at_least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise UsageError(f"Option {name!r} of {owner!r} makes no sense", given=repr(value),
                         allowed=f"a whole number of {at_least} or more")


def check_one_of(owner: str, name: str, value: object, allowed: Sequence[str]) -> None:
    """Raises UsageError if an option of ``owner`` is none of the allowed words."""
    if value not in allowed:
        raise UsageError(f"Option {name!r} of {owner!r} makes no sense", given=repr(value),
                         allowed=", ".join(allowed), hint=nearest(str(value), allowed))


def check_part(owner: str, name: str, value: object, *, most: float) -> None:
    """Raises UsageError if an option of ``owner`` is not a number from 0 to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise UsageError(f"Option {name!r} of {owner!r} makes no sense", given=repr(value),
                         allowed=f"a number from 0 to {most:g}")


def _value(text: str) -> ParamValue:
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
