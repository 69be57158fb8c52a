"""Arguments from Python, where anything can be given: what is of the wrong kind is refused before anything begins."""

from __future__ import annotations

import numbers
from typing import Any

from velodrome.errors import UsageError


def whole(name: str, value: Any, least: int | None) -> int:
    """The value as an int, where it is a whole number, and not less than the least where there is one.

    Raises:
        UsageError: If it is not.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or (least is not None and value < least):
        raise UsageError(f"The argument {name!r} makes no sense", given=f"{name}={value!r}",
                         allowed="a whole number" + ("" if least is None else f", {least} or more"))
    return int(value)


def check_seconds(**given: Any) -> None:
    """Refuses what is no time of more than nothing, or None.

    Raises:
        UsageError: With the first that is neither.
    """
    for name, value in given.items():
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if value is not None and not (is_number and float(value) > 0):
            raise UsageError(f"The argument {name!r} makes no sense", given=f"{name}={value!r}",
                             allowed="a number of seconds, more than 0, or None")


def check_texts(**given: Any) -> None:
    """Refuses arguments that are neither texts nor None.

    Raises:
        UsageError: With the first that is something else.
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f"The argument {name!r} is no text", given=f"{name}={value!r}", allowed="a text")
