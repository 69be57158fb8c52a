"""A computation as the bare tensor operations that it comes to, in order, and as a Python function made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Program = Callable[..., tuple[Tensor, ...]]
"""The operations as a function: takes the inputs, returns the outputs."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a tensor stands on the tape: it takes the tensor's place among the arguments of a call."""

    number: int


@dataclass(slots=True)
class Call:
    """One operation; ``results`` are slots, None for what is no tensor."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[Slot | None, ...]
    is_single: bool
    is_mutable: bool


@dataclass(slots=True)
class Tape:
    """Calls in order. ``tensors`` has, by slot, the value that was seen while recording."""

    calls: list[Call] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    constants: dict[int, Tensor] = field(default_factory=dict)
    """Tensors that are no input and no result, by slot."""


def compiled(tape: Tape, ins: Sequence[Slot], outs: Sequence[Slot]) -> Program:
    """The tape as a Python function; each tensor is let go after its last use, so that its memory is used again."""
    writer = _Writer(tape)
    last: dict[int, int] = {}
    for index, call in enumerate(tape.calls):
        for slot in [*slots_in((call.args, call.kwargs)), *(s for s in call.results if s is not None)]:
            last[slot.number] = index
    kept = {slot.number for slot in outs} | set(tape.constants)
    ends: dict[int, list[int]] = {}
    for number, index in last.items():
        if number not in kept:
            ends.setdefault(index, []).append(number)
    lines = [f"def run({', '.join(f't{slot.number}' for slot in ins)}):"]
    for index, call in enumerate(tape.calls):
        lines.append(f"    {writer.call(call)}")
        if index in ends:
            lines.append(f"    del {', '.join(f't{number}' for number in sorted(ends[index]))}")
    lines.append(f"    return ({''.join(f'{writer.text(slot)}, ' for slot in outs)})")
    scope = writer.scope
    exec(compile("\n".join(lines), "<tape>", "exec"), scope)
    program: Program = scope["run"]
    return program


class _Writer:
    """Writes calls as code; what has no literal goes into ``scope``."""

    def __init__(self, tape: Tape) -> None:
        self.scope: dict[str, Any] = {}
        self._constants = tape.constants

    def call(self, call: Call) -> str:
        """The line of a call."""
        function = self._named(call.function, "f")
        args = [self.text(arg) for arg in call.args] + [f"{key}={self.text(arg)}" for key, arg in call.kwargs.items()]
        results = [f"t{slot.number}" if slot is not None else "_" for slot in call.results]
        left = results[0] if call.is_single else f"{', '.join(results)},"
        return f"{left} = {function}({', '.join(args)})"

    def text(self, value: Any) -> str:
        """An argument."""
        if isinstance(value, Slot):
            return f"t{value.number}" if value.number not in self._constants else self._constant(value.number)
        if isinstance(value, list):
            return f"[{', '.join(self.text(item) for item in value)}]"
        if isinstance(value, tuple):
            return f"({''.join(f'{self.text(item)}, ' for item in value)})"
        if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        return self._named(value, "c")

    def _constant(self, number: int) -> str:
        self.scope[f"k{number}"] = self._constants[number]
        return f"k{number}"

    def _named(self, value: Any, kind: str) -> str:
        for name, other in self.scope.items():
            if other is value and name.startswith(kind):
                return name
        name = f"{kind}{len(self.scope)}"
        self.scope[name] = value
        return name


def slots_in(value: Any) -> list[Slot]:
    """All slots in an argument."""
    if isinstance(value, Slot):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [slot for item in value for slot in slots_in(item)]
    return []
