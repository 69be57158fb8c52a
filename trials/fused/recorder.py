"""A computation recorded once, to be done again without its Python.

The batched gradient of K small models costs little arithmetic and much else: modules, ``vmap``'s rules, autograd's
graph, again at every step, for the same operations on tensors of the same shapes. ``record`` runs it once and notes
each operation below all of those; what is then left is a function of straight-line code.

What depends on tensors' values rather than on their shapes can't be recorded: ``.item()`` and ``if`` on tensors, and
chance. These are refused. Inputs that are changed in place are changed in place again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from velodrome.trials.fused.shortcuts import shortened
from velodrome.trials.fused.tape import Call, Program, Slot, Tape, compiled


class CantRecord(Exception):  # noqa: N818 - it is a verdict, not an error
    """Something that can't be on a tape; says what, in a few words."""


def record(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Program]:
    """Runs ``function(*inputs)`` and returns its results and the program that computes them again.

    Raises:
        CantRecord: If the function depends on values or on chance.
    """
    recorder = _Recorder(inputs)
    with recorder:
        results = tuple(function(*inputs))
    tape = recorder.tape
    ins = [recorder.slot(tensor) for tensor in inputs]
    outs = [recorder.slot(tensor) for tensor in results]
    outs = shortened(tape, outs)
    return results, compiled(tape, ins, outs)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Notes each operation that reaches the kernels."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.tape = Tape()
        self._slots: dict[int, Slot] = {}
        for tensor in inputs:
            self._new_slot(tensor)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keeps torch from importing its compiler, which takes seconds, to keep it away from here."""
        return False

    def slot(self, tensor: Tensor) -> Slot:
        """The tensor's slot; one that is not known is a constant."""
        found = self._slots.get(id(tensor))
        if found is None:
            found = self._new_slot(tensor)
            self.tape.constants[found.number] = tensor
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise CantRecord(f"draws random numbers of its own ({func})")
        if func is torch.ops.aten._local_scalar_dense.default and id(args[0]) in self._slots:
            raise CantRecord("looks at the value of a tensor, as .item() and if do")
        found = func(*args, **kwargs)
        self._note(func, args, kwargs, found)
        return found

    def _note(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        is_mutable = func._schema.is_mutable
        slots, named = self._slotted(args), {key: self._slotted(value) for key, value in kwargs.items()}
        outs = found if isinstance(found, tuple | list) else (found,)
        results = tuple(
            (self._slots.get(id(out)) or self._new_slot(out)) if isinstance(out, Tensor) else None for out in outs
        )
        is_single = not isinstance(found, tuple | list)
        self.tape.calls.append(Call(func, slots, named, results, is_single, is_mutable))

    def _slotted(self, value: Any) -> Any:
        """The value with slots in place of tensors."""
        if isinstance(value, Tensor):
            return self.slot(value)
        if isinstance(value, tuple | list):
            return type(value)(self._slotted(item) for item in value)
        return value

    def _new_slot(self, tensor: Tensor) -> Slot:
        slot = self._slots[id(tensor)] = Slot(len(self.tape.tensors))
        self.tape.tensors.append(tensor)  # kept, so that no other tensor gets its id
        return slot
