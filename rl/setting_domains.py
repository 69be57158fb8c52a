"""Domains of settings as a person writes them: ``1e-4..1e-2:log``, ``8..32``, ``tanh|relu``.

``velo sweep ppo --env ID -p lr=1e-4..1e-2:log -p epochs='4|8|16'`` searches these two, and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from velodrome.errors import UsageError
from velodrome.rl.settings import About, fitting
from velodrome.search.domains import Choice, Domain, Float, Int

_HOW = "LOW..HIGH, LOW..HIGH:log, or VALUE|VALUE|..."


def is_domain(value: Any) -> bool:
    """Whether a setting's value is several: a domain, or the text of one."""
    return isinstance(value, Float | Int | Choice) or (isinstance(value, str) and (".." in value or "|" in value))


def read_domain(name: str, value: Any, about: About) -> Domain:
    """The domain that is meant, all of whose values the setting allows.

    Args:
        name: The setting's.
        value: A domain, or its text.
        about: What is known of the setting.

    Raises:
        UsageError: If it is not understood, makes no sense, or holds a value that is not allowed.
    """
    domain: Domain
    if isinstance(value, str):
        domain = _ranged(name, value, about) if ".." in value else _chosen(name, value.split("|"), about)
    elif isinstance(value, Choice):
        domain = _chosen(name, value.options, about)
    else:
        for end in (value.low, value.high):
            fitting(name, end, about.allowed)
        domain = value
    domain.validate(name)
    return domain


def _chosen(name: str, options: Iterable[Any], about: About) -> Domain:
    return Choice(*(fitting(name, option, about.allowed) for option in options))


def _ranged(name: str, text: str, about: About) -> Domain:
    ends, _, scale = text.partition(":")
    if isinstance(about.allowed, Choice) or scale not in ("", "log"):
        raise UsageError(f"The setting {name!r} can't be searched like that", given=repr(text),
                         allowed="VALUE|VALUE|..." if isinstance(about.allowed, Choice) else _HOW)
    low, _, high = ends.partition("..")
    first, last = (fitting(name, end, about.allowed) for end in (low, high))
    return type(about.allowed)(first, last, log=scale == "log")  # type: ignore[arg-type]  # fitting gave numbers
