"""The numeric domains of a space: ``Float`` and ``Int``, on a linear or a logarithmic scale, with or without steps.

A domain with a mistake in it is made without complaint, for it does not know its parameter's name yet:
``validate(name)`` raises, and ``Space``, ``History.add_param`` and ``domain_from_json`` call it. The other methods need
a valid domain.

Steps are counted with integers: the values of ``Float(0, 1, step=0.1)`` are the floats nearest to 0.1, 0.2, 0.3, ...,
and no error adds up. On a logarithmic scale, a step's share of the unit interval is that of the range of real
numbers that round to it.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from velodrome.search.problems import Problem, float_problem, int_problem, raise_problem, raise_value
from velodrome.types import ParamValue


@dataclass(frozen=True, slots=True)
class _Scale:
    """The real interval behind a domain: ``[low, high]``, or its logarithm."""

    log: bool
    start: float
    width: float

    @classmethod
    def of(cls, low: float, high: float, *, log: bool) -> _Scale:
        """The scale from ``low`` to ``high``."""
        if log:
            return cls(True, math.log(low), math.log(high) - math.log(low))
        return cls(False, low, high - low)

    @classmethod
    def of_steps(cls, low: float, last: float, step: float, *, log: bool) -> _Scale:
        """The scale for values from ``low`` to ``last`` in steps: half a step is added at either end."""
        first = max(low - step / 2, low / 2) if log else low - step / 2
        return cls.of(first, last + step / 2, log=log)

    def real(self, u: float) -> float:
        """The number at ``u`` of the unit interval."""
        x = self.start + u * self.width
        return math.exp(x) if self.log else x

    def unit(self, x: float) -> float:
        """The place of ``x`` in the unit interval."""
        if self.width == 0.0:
            return 0.5
        u = ((math.log(x) if self.log else x) - self.start) / self.width
        return min(max(u, 0.0), 1.0)


@dataclass(frozen=True, slots=True, repr=False)
class Float:
    """A real number from ``low`` to ``high``, both included.

    Args:
        low: The smallest value.
        high: The largest value.
        log: Whether equal ratios, not equal differences, are equally likely. Needs ``low > 0``.
        step: If given, the values are ``low, low + step, ...`` up to ``high`` at most.

    >>> Float(0, 1, step=0.1).from_unit(0.32)
    0.3
    """

    low: float
    high: float
    log: bool = field(default=False, kw_only=True)
    step: float | None = field(default=None, kw_only=True)
    problem: Problem | None = field(init=False, compare=False)
    cardinality: int | None = field(init=False, compare=False)
    """The number of values; None where it has no end."""
    _scale: _Scale = field(init=False, compare=False)
    _lattice: tuple[int, int, int] = field(init=False, compare=False)
    """Value k is ``(first + k * stride) / denominator``, all integers."""

    def __post_init__(self) -> None:
        problem = float_problem(self.low, self.high, self.log, self.step)
        put = object.__setattr__
        put(self, "problem", problem)
        if problem is not None:
            return
        put(self, "low", float(self.low))
        put(self, "high", float(self.high))
        if self.step is None:
            put(self, "cardinality", 1 if self.low == self.high else None)
            put(self, "_scale", _Scale.of(self.low, self.high, log=self.log))
            return
        put(self, "step", float(self.step))
        (first, last, stride), denominator = _as_integers(self.low, self.high, self.step)
        count = (last - first) // stride + 1
        put(self, "_lattice", (first, stride, denominator))
        put(self, "cardinality", count)
        put(self, "_scale", _Scale.of_steps(self.low, self._at(count - 1), self.step, log=self.log))

    def __repr__(self) -> str:
        return _describe("Float", self.low, self.high, log=self.log, step=self.step)

    def validate(self, name: str) -> None:
        """Raises SpaceError, with the parameter's name, if the domain makes no sense."""
        if self.problem is not None:
            raise_problem(name, self, self.problem)

    def from_unit(self, u: float) -> float:
        """The value at ``u`` in [0, 1]; equal lengths of the unit interval are equally likely."""
        if self.step is None:
            if u <= 0.0:
                return self.low
            return self.high if u >= 1.0 else min(max(self._scale.real(u), self.low), self.high)
        return self._at(self._index(self._scale.real(u)))

    def to_unit(self, value: ParamValue) -> float:
        """The place of a value in [0, 1]; ``from_unit`` gives the value back (where no step is, up to rounding)."""
        return self._scale.unit(_real(value))

    def contains(self, value: object) -> bool:
        """Whether this is a value of the domain. A whole number is fine; a step may be off by rounding errors."""
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        x = float(value)
        if not self.low <= x <= self.high:
            return self.step is not None and math.isfinite(x) and self._is_on_step(x)
        return self.step is None or self._is_on_step(x)

    def check(self, name: str, value: object) -> None:
        """Raises SpaceError if the value is not in the domain."""
        if not self.contains(value):
            raise_value(name, value, self)

    def code(self, value: ParamValue) -> float:
        """A valid value as a float64."""
        return _real(value)

    def decode(self, code: float) -> float:
        """The value that ``code`` stands for."""
        return float(code)

    def value_at(self, index: int) -> float:
        """Value ``index`` of a stepped domain, from 0."""
        return self._at(index)

    def to_json(self) -> dict[str, Any]:
        """The domain as JSON."""
        return _numeric_json("float", self.low, self.high, log=self.log, step=self.step)

    def _at(self, index: int) -> float:
        first, stride, denominator = self._lattice
        return (first + index * stride) / denominator

    def _index(self, x: float) -> int:
        assert self.step is not None
        assert self.cardinality is not None
        return min(max(round((x - self.low) / self.step), 0), self.cardinality - 1)

    def _is_on_step(self, x: float) -> bool:
        assert self.step is not None
        return abs(x - self._at(self._index(x))) <= 1e-9 * max(self.step, abs(x) * 1e-6)


@dataclass(frozen=True, slots=True, repr=False)
class Int:
    """A whole number from ``low`` to ``high``, both included.

    Args:
        low: The smallest value; at least -2**53.
        high: The largest value; at most 2**53.
        log: Whether equal ratios, not equal differences, are equally likely. Needs ``low >= 1``.
        step: The values are ``low, low + step, ...`` up to ``high`` at most.

    >>> Int(1, 8, step=3).from_unit(1.0)
    7
    """

    low: int
    high: int
    log: bool = field(default=False, kw_only=True)
    step: int = field(default=1, kw_only=True)
    problem: Problem | None = field(init=False, compare=False)
    cardinality: int = field(init=False, compare=False)
    """The number of values."""
    _scale: _Scale = field(init=False, compare=False)

    def __post_init__(self) -> None:
        problem = int_problem(self.low, self.high, self.log, self.step)
        put = object.__setattr__
        put(self, "problem", problem)
        if problem is not None:
            return
        for name in ("low", "high", "step"):
            put(self, name, int(getattr(self, name)))
        put(self, "cardinality", (self.high - self.low) // self.step + 1)
        last = self.low + (self.cardinality - 1) * self.step
        put(self, "_scale", _Scale.of_steps(self.low, last, self.step, log=self.log))

    def __repr__(self) -> str:
        return _describe("Int", self.low, self.high, log=self.log, step=None if self.step == 1 else self.step)

    def validate(self, name: str) -> None:
        """Raises SpaceError, with the parameter's name, if the domain makes no sense."""
        if self.problem is not None:
            raise_problem(name, self, self.problem)

    def from_unit(self, u: float) -> int:
        """The value at ``u`` in [0, 1]; without ``log``, every value has the same share."""
        index = round((self._scale.real(u) - self.low) / self.step)
        return self.low + self.step * min(max(index, 0), self.cardinality - 1)

    def to_unit(self, value: ParamValue) -> float:
        """The middle of the value's share of [0, 1]; on a logarithmic scale, the place of the value itself."""
        return self._scale.unit(_real(value))

    def contains(self, value: object) -> bool:
        """Whether this is a value of the domain: a whole number (of type int) on a step."""
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            return False
        return self.low <= int(value) <= self.high and (int(value) - self.low) % self.step == 0

    def check(self, name: str, value: object) -> None:
        """Raises SpaceError if the value is not in the domain."""
        if not self.contains(value):
            raise_value(name, value, self)

    def code(self, value: ParamValue) -> float:
        """A valid value as a float64, exactly."""
        return _real(value)

    def decode(self, code: float) -> int:
        """The value that ``code`` stands for."""
        return int(code)

    def value_at(self, index: int) -> int:
        """Value ``index``, from 0."""
        return self.low + self.step * index

    def to_json(self) -> dict[str, Any]:
        """The domain as JSON."""
        return _numeric_json("int", self.low, self.high, log=self.log, step=None if self.step == 1 else self.step)


def _real(value: ParamValue) -> float:
    """A valid numeric value as a float."""
    return float(value)  # type: ignore[arg-type]  # the caller promises a number; None is a TypeError


def _as_integers(*values: float) -> tuple[tuple[int, ...], int]:
    """Integers and the denominator that makes each of them its value, as it is written in decimals."""
    decimals = [Decimal(repr(v)) for v in values]
    places = max(0, *(-int(d.as_tuple().exponent) for d in decimals))
    denominator: int = 10**places
    integers = []
    for d in decimals:
        sign, digits, exponent = d.as_tuple()
        integers.append((-1) ** sign * int("".join(map(str, digits))) * 10 ** (int(exponent) + places))
    return tuple(integers), denominator


def _describe(kind: str, low: float, high: float, *, log: bool, step: float | None) -> str:
    options = (", log=True" if log is True else "" if log is False else f", log={log!r}") + (
        f", step={step!r}" if step is not None else "")
    return f"{kind}({low!r}, {high!r}{options})"


def _numeric_json(kind: str, low: float, high: float, *, log: bool, step: float | None) -> dict[str, Any]:
    data: dict[str, Any] = {"type": kind, "low": low, "high": high}
    if log:
        data["log"] = True
    if step is not None:
        data["step"] = step
    return data
