"""What can be wrong with a numeric domain, and the errors that say so."""

from __future__ import annotations

import math
import numbers
from typing import Any

from velodrome.errors import SpaceError

MAX_INT = 2**53
"""The largest whole number that a float64 holds with all those below it."""

Problem = tuple[str, str]
"""What is wrong with a domain, and what is allowed."""


def raise_problem(name: str, domain: object, problem: Problem) -> None:
    """Raises the SpaceError for a domain that makes no sense."""
    what, allowed = problem
    raise SpaceError(f"Parameter {name!r}: {what}", given=repr(domain), allowed=allowed)


def raise_value(name: str, value: object, domain: object) -> None:
    """Raises the SpaceError for a value outside a domain."""
    raise SpaceError(f"Parameter {name!r} has a value outside its domain", given=repr(value), allowed=repr(domain))


def float_problem(low: Any, high: Any, log: Any, step: Any) -> Problem | None:
    """What is wrong with a ``Float``, if anything is."""
    if not (_is_real(low) and _is_real(high)):
        return "its bounds are not finite numbers", "two finite numbers, low <= high"
    if low > high:
        return "low is greater than high", "low <= high"
    if not math.isfinite(float(high) - float(low)):
        return "its range is too wide for a float", "high - low below 1.79e308"
    if not isinstance(log, bool):
        return "log is neither True nor False", "log=True or log=False"
    if log and low <= 0:
        return "a logarithmic scale can't reach down to low", "low > 0, or log=False"
    if step is None:
        return None
    if not (_is_real(step) and step > 0):
        return "its step is not a positive number", "a finite step > 0, or none"
    if (float(high) - float(low)) / float(step) > MAX_INT:
        return "its step is too small for its range", "at most 2**53 steps"
    return None


def int_problem(low: Any, high: Any, log: Any, step: Any) -> Problem | None:
    """What is wrong with an ``Int``, if anything is."""
    if not (_is_whole(low) and _is_whole(high)):
        return "its bounds are not whole numbers", "two whole numbers, low <= high; or Float(low, high)"
    if low > high:
        return "low is greater than high", "low <= high"
    if low < -MAX_INT or high > MAX_INT:
        return "its bounds are too large", "whole numbers from -2**53 to 2**53"
    if not isinstance(log, bool):
        return "log is neither True nor False", "log=True or log=False"
    if log and low < 1:
        return "a logarithmic scale can't reach down to low", "low >= 1, or log=False"
    if not (_is_whole(step) and step >= 1):
        return "its step is not a positive whole number", "step >= 1"
    return None


def _is_real(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
