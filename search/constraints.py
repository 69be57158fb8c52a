"""Conditions between parameters, as text: ``Constraint("width * depth <= 4096")``.

Text, so that a space is JSON. It is parsed with ``ast`` into a small language and never run as free Python: numbers,
texts, ``True``, ``False``, ``None``, parameter names (dotted ones too), ``+ - * / // % **``, comparisons, ``in`` a
list, ``and``, ``or``, ``not``, and the functions ``min``, ``max``, ``abs``, ``log``.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Protocol

from velodrome.errors import SpaceError
from velodrome.types import ParamValue


def _power(base: float, exponent: float) -> float:
    """``base ** exponent`` in floats: never a whole number with millions of digits."""
    return math.pow(base, exponent)


_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs, "log": math.log}
_SCOPE = {"__builtins__": {}, "_power": _power, **_FUNCTIONS}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_SIGNS = (ast.USub, ast.UAdd, ast.Not)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)
_ALLOWED = "names of parameters, numbers, texts, + - * / // % **, < <= == != >= >, in, and, or, not, min, max, abs, log"


class Condition(Protocol):
    """What a configuration must meet: a ``Constraint``, or what a space with nets asks of them."""

    @property
    def text(self) -> str:
        """The condition as it is shown."""
        ...

    def holds(self, params: Mapping[str, ParamValue]) -> bool:
        """Whether the configuration meets it."""
        ...

    def broken_by(self, params: Mapping[str, ParamValue]) -> SpaceError:
        """The error for a configuration that does not."""
        ...

    def advice(self) -> str:
        """What to do where nothing meets it."""
        ...


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition that every configuration must meet. One that names an inactive parameter is met.

    >>> Constraint("width * depth <= 4096").holds({"width": 64, "depth": 100})
    False

    Raises:
        SpaceError: If the text is not understood.
    """

    text: str
    names: tuple[str, ...] = field(init=False, compare=False, repr=False)
    """The parameters that it names."""
    _code: CodeType = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        translator = _Translator(self.text)
        object.__setattr__(self, "_code", translator.code)
        object.__setattr__(self, "names", tuple(dict.fromkeys(translator.names)))

    def __reduce__(self) -> tuple[type[Constraint], tuple[str]]:
        return Constraint, (self.text,)

    def holds(self, params: Mapping[str, ParamValue]) -> bool:
        """Whether the configuration meets the condition. One that can't be computed (1 / 0, log of -1) is not met.

        Raises:
            SpaceError: If values of the wrong kind meet, such as a text and a number.
        """
        for name in self.names:
            if name not in params:
                return True
        try:
            return bool(eval(self._code, _SCOPE, {"_params": params}))
        except (ArithmeticError, ValueError):
            return False
        except TypeError as error:
            raise SpaceError(
                f"Constraint {self.text!r} can't be computed: {error}", given=repr({n: params[n] for n in self.names}),
                allowed="numbers with numbers, texts with texts",
            ) from error

    def broken_by(self, params: Mapping[str, ParamValue]) -> SpaceError:
        """The error for a configuration that breaks it."""
        return SpaceError("A configuration breaks a constraint", given=repr({n: params[n] for n in self.names}),
                          allowed=self.text)

    def advice(self) -> str:
        """What to do where nothing meets it."""
        return "loosen the constraint, or narrow the domains of " + ", ".join(self.names)


class _Translator:
    """Turns a constraint's text into code over ``_params``; refuses every kind of node that it does not know."""

    def __init__(self, text: str) -> None:
        self.names: list[str] = []
        self._text = text
        if not isinstance(text, str):
            raise SpaceError("A constraint is no text", given=repr(text), allowed='text, as "width * depth <= 96"')
        try:
            body = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise SpaceError("A constraint is not understood", given=repr(text), allowed=_ALLOWED) from error
        if not isinstance(body, ast.Compare | ast.BoolOp | ast.Name | ast.Attribute) and not (
                isinstance(body, ast.UnaryOp) and isinstance(body.op, ast.Not)):
            raise SpaceError("A constraint is no condition", given=repr(text),
                             allowed="a comparison, or several with and, or, not")
        expression = ast.fix_missing_locations(ast.Expression(self._expression(body)))
        if not self.names:
            raise SpaceError("A constraint names no parameter", given=repr(text), allowed="one parameter or more")
        self.code: CodeType = compile(expression, "<constraint>", "eval")

    def _expression(self, node: ast.expr) -> ast.expr:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return node
            case ast.Name() | ast.Attribute():
                return self._parameter(node)
            case ast.BinOp(left, ast.Pow(), right):
                return ast.Call(ast.Name("_power", ast.Load()), [self._expression(left), self._expression(right)], [])
            case ast.BinOp(left, op, right) if isinstance(op, _ARITHMETIC):
                return ast.BinOp(self._number(left), op, self._number(right))
            case ast.UnaryOp(op, operand) if isinstance(op, _SIGNS):
                return ast.UnaryOp(op, self._expression(operand))
            case ast.BoolOp(op, values):
                return ast.BoolOp(op, [self._expression(v) for v in values])
            case ast.Compare(left, ops, comparators) if all(isinstance(op, _COMPARISONS) for op in ops):
                return ast.Compare(self._expression(left), ops, [self._expression(c) for c in comparators])
            case ast.List(elts) | ast.Tuple(elts):
                return ast.Tuple([self._expression(e) for e in elts], ast.Load())
            case ast.Call(ast.Name(id=name), args, []) if name in _FUNCTIONS and args:
                return ast.Call(ast.Name(name, ast.Load()), [self._expression(a) for a in args], [])
        raise self._refuse(node)

    def _number(self, node: ast.expr) -> ast.expr:
        """An operand of arithmetic: no text and no list, which Python would repeat or join."""
        if isinstance(node, ast.List | ast.Tuple) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            raise self._refuse(node)
        return self._expression(node)

    def _parameter(self, node: ast.expr) -> ast.expr:
        parts: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            raise self._refuse(node)
        name = ".".join([inner.id, *reversed(parts)])
        self.names.append(name)
        return ast.Subscript(ast.Name("_params", ast.Load()), ast.Constant(name), ast.Load())

    def _refuse(self, node: ast.expr) -> SpaceError:
        what = f"A constraint has a part that is not allowed: {ast.unparse(node)}"
        return SpaceError(what, given=repr(self._text), allowed=_ALLOWED)
