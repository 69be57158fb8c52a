"""What a tape can do without: operations that change nothing, and quicker ones for the same numbers.

Each rule is a function from the tape to fewer or better calls. All hold for any tape; what is changed in place is left
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from velodrome.trials.fused.pooling import max_pool2d_with_indices
from velodrome.trials.fused.tape import Call, Slot, Tape, slots_in

aten = torch.ops.aten

_VIEWS = (aten._unsafe_view.default, aten._reshape_alias.default)
"""Functions whose result is a view, and that don't say so."""

_TIMES_ONE = (aten.mul.Scalar, aten.mul.Tensor, aten.div.Scalar, aten.div.Tensor)

_OF_SHAPE = (aten.ones_like.default, aten.zeros_like.default, aten.new_zeros.default, aten.new_ones.default)
_KEPT = 1 << 16
"""Results of these depend on a shape alone: constants, if they have at most so many numbers."""

_SHORT = 15
"""A softmax over so few numbers, less than a vector, is 10 times quicker down the columns than along the rows."""

_QUICK: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: torch.add, aten.sub.Tensor: torch.sub, aten.mul.Tensor: torch.mul, aten.div.Tensor: torch.div,
    aten.mul.Scalar: torch.mul, aten.div.Scalar: torch.div, aten.add.Scalar: torch.add, aten.neg.default: torch.neg,
    aten.bmm.default: torch.bmm, aten.mm.default: torch.mm, aten.baddbmm.default: torch.baddbmm,
    aten.relu.default: torch.relu, aten.tanh.default: torch.tanh, aten.sigmoid.default: torch.sigmoid,
    aten.exp.default: torch.exp, aten.sqrt.default: torch.sqrt, aten.rsqrt.default: torch.rsqrt,
    aten.transpose.int: torch.transpose, aten.permute.default: torch.permute, aten.unsqueeze.default: torch.unsqueeze,
    aten.squeeze.dims: torch.squeeze, aten.squeeze.dim: torch.squeeze, aten.select.int: torch.select,
    aten.view.default: Tensor.view, aten.expand.default: Tensor.expand,
    aten.ne.Scalar: torch.ne, aten.ge.Tensor: torch.ge, aten.where.self: torch.where, aten.gather.default: torch.gather,
    aten.sum.dim_IntList: torch.sum, aten.mean.dim: torch.mean, aten.cat.default: torch.cat,
    aten.stack.default: torch.stack, aten.scatter_add.default: torch.scatter_add, aten.unbind.int: torch.unbind,
}
"""The same functions by a shorter way through Python."""


def shortened(tape: Tape, outs: Sequence[Slot]) -> list[Slot]:
    """Shortens the tape in place, and returns the slots of the outputs."""
    rules = _Rules(tape)
    outs = rules.without_the_idle(outs)
    rules.fold_constants()
    outs = rules.without_the_same_again(outs)
    rules.turn_products()
    rules.join_sums(outs)
    _drop_unused(tape, outs)
    for call in tape.calls:
        call.function = _quicker(call, tape) or rules.view(call) or _QUICK.get(call.function, call.function)
    return outs


class _Rules:
    """The rules, and what they ask of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._roots: dict[int, int] = {}
        """By view, the slot whose memory it shows."""
        self._views: dict[tuple[Any, ...], Slot] = {}
        self._changed = {
            self._memory(slot) for call in tape.calls if call.is_mutable for slot in slots_in((call.args, call.kwargs))
        }

    def without_the_idle(self, outs: Sequence[Slot]) -> list[Slot]:
        """Takes out calls whose result is there already: a view as another one is, or what is multiplied by one."""
        same: dict[int, Slot] = {}
        calls = []
        for call in self._tape.calls:
            call.args, call.kwargs = _renamed(call.args, same), _renamed(call.kwargs, same)
            found = self._viewed(call) or self._unchanged(call)
            if found is not None:
                same[_first(call).number] = found
            else:
                calls.append(call)
        self._tape.calls = calls
        return [same.get(slot.number, slot) for slot in outs]

    def without_the_same_again(self, outs: Sequence[Slot]) -> list[Slot]:
        """Takes out calls that were made before, with the same arguments."""
        same: dict[int, Slot] = {}
        made: dict[str, Call] = {}
        calls = []
        for call in self._tape.calls:
            call.args, call.kwargs = _renamed(call.args, same), _renamed(call.kwargs, same)
            key = f"{call.function} {call.args} {call.kwargs}"
            slots = [*slots_in((call.args, call.kwargs)), *(slot for slot in call.results if slot is not None)]
            is_pure = not call.is_mutable and not any(self._memory(slot) in self._changed for slot in slots)
            if is_pure and (before := made.setdefault(key, call)) is not call:
                pairs = zip(call.results, before.results, strict=True)
                same |= {slot.number: other for slot, other in pairs if slot is not None and other is not None}
            else:
                calls.append(call)
        self._tape.calls = calls
        return [same.get(slot.number, slot) for slot in outs]

    def fold_constants(self) -> None:
        """Takes out calls that depend on constants alone, or on shapes; their results are constants then."""
        calls = []
        for call in self._tape.calls:
            used = slots_in((call.args, call.kwargs))
            results = [slot for slot in call.results if slot is not None]
            is_known = all(slot.number in self._tape.constants for slot in used) or (
                call.function in _OF_SHAPE and self._tape.tensors[_first(call).number].numel() <= _KEPT
            )
            if is_known and not call.is_mutable and not any(self._memory(slot) in self._changed for slot in results):
                for slot in results:
                    self._tape.constants[slot.number] = self._tape.tensors[slot.number]
            else:
                calls.append(call)
        self._tape.calls = calls

    def turn_products(self) -> None:
        """``(A^T B)^T``, the gradient by a layer's weights, becomes ``B^T A``: it lies in memory as the weights do."""
        makers, uses = self._makers(), self._uses()
        calls: list[Call] = []
        for call in self._tape.calls:
            better = call
            product = makers.get(call.args[0].number) if _is_transpose(call) else None
            if product is not None and product.function is aten.bmm.default and uses[call.args[0].number] == 1:
                a, b = product.args
                turned = makers.get(a.number)
                if turned is not None and _is_transpose(turned):
                    slot = self._turned(b, calls)
                    better = Call(aten.bmm.default, (slot, turned.args[0]), {}, call.results, True, False)
            calls.append(better)
        self._tape.calls = calls

    def join_sums(self, outs: Sequence[Slot]) -> None:
        """A product and what is added to it, such as a layer's bias, become one call."""
        makers, uses = self._makers(), self._uses()
        kept = {slot.number for slot in outs}
        for call in self._tape.calls:
            if call.function is not aten.add.Tensor or call.kwargs or len(slots_in(call.args)) != 2:
                continue
            for other, product in (call.args, call.args[::-1]):
                maker = makers.get(product.number)
                if maker is None or uses[product.number] > 1 or product.number in kept:
                    continue
                if maker.function is aten.bmm.default and self._is_row(other, product, maker.args):
                    call.function, call.args = aten.baddbmm.default, (other, *maker.args)
                    break

    def _is_row(self, added: Slot, product: Slot, factors: Sequence[Slot]) -> bool:
        """Whether one row is added to all rows of the product of each member, and all of that stays as it is."""
        row, whole = self._tape.tensors[added.number], self._tape.tensors[product.number]
        is_row = row.shape == (len(whole), 1, whole.shape[2]) and row.dtype == whole.dtype
        return is_row and not {self._memory(slot) for slot in (added, product, *factors)} & self._changed

    def view(self, call: Call) -> Callable[..., Any] | None:
        """A view that is a copy where it has to be, for the quicker calls leave their results in another order."""
        if call.function not in (aten.view.default, *_VIEWS[:1]) or self._memory(call.args[0]) in self._changed:
            return None
        return Tensor.reshape

    def _turned(self, slot: Slot, calls: list[Call]) -> Slot:
        """A new slot with its transpose."""
        turned = Slot(len(self._tape.tensors))
        self._tape.tensors.append(self._tape.tensors[slot.number].transpose(1, 2))
        calls.append(Call(aten.transpose.int, (slot, 1, 2), {}, (turned,), True, False))
        return turned

    def _viewed(self, call: Call) -> Slot | None:
        """The slot with the view that the call gives; None where there is none yet, or the call gives no view."""
        if not (call.function in _VIEWS or call.function.is_view) or not call.is_single or call.results[0] is None:
            return None
        given, found = call.args[0], call.results[0]
        if not isinstance(given, Slot):
            return None
        root = self._roots[found.number] = self._roots.get(given.number, given.number)
        self._views.setdefault(self._layout(root, given), given)
        same = self._views.setdefault(self._layout(root, found), found)
        return None if same is found else same

    def _layout(self, root: int, slot: Slot) -> tuple[Any, ...]:
        """How a view of the root's memory looks."""
        tensor = self._tape.tensors[slot.number]
        signs = tensor.is_conj(), tensor.is_neg()
        return root, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, *signs

    def _unchanged(self, call: Call) -> Slot | None:
        """The argument, if the call multiplies it by one; None where it does more than that."""
        if call.function not in _TIMES_ONE or isinstance(call.args[1], Slot) or call.args[1] != 1:
            return None
        slot, result = call.args[0], _first(call)
        given, found = self._tape.tensors[slot.number], self._tape.tensors[result.number]
        if given.dtype != found.dtype or {self._memory(slot), self._memory(result)} & self._changed:
            return None
        if given.stride() == found.stride():
            return slot  # type: ignore[no-any-return]
        # What lies otherwise in memory will do where it is only viewed, and can be.
        users = [user for user in self._tape.calls if result in slots_in((user.args, user.kwargs))]
        if any(user.function is not aten.view.default for user in users):
            return None
        try:
            views = {_first(user).number: given.view(user.args[1]) for user in users}
        except RuntimeError:
            return None
        for number, view in views.items():
            self._tape.tensors[number] = view
        return slot  # type: ignore[no-any-return]

    def _makers(self) -> dict[int, Call]:
        """By slot, the call that it comes from."""
        return {slot.number: call for call in self._tape.calls for slot in call.results if slot is not None}

    def _uses(self) -> dict[int, int]:
        """By slot, how often it is an argument."""
        uses: dict[int, int] = {}
        for call in self._tape.calls:
            for slot in slots_in((call.args, call.kwargs)):
                uses[slot.number] = uses.get(slot.number, 0) + 1
        return uses

    def _memory(self, slot: Slot) -> int:
        return self._tape.tensors[slot.number].untyped_storage().data_ptr()


def _drop_unused(tape: Tape, outs: Sequence[Slot]) -> None:
    """Takes out calls whose results nobody needs."""
    needed = {slot.number for slot in outs}
    calls = []
    for call in reversed(tape.calls):
        if call.is_mutable or any(slot is not None and slot.number in needed for slot in call.results):
            needed.update(slot.number for slot in slots_in((call.args, call.kwargs)))
            calls.append(call)
    tape.calls = calls[::-1]


def _quicker(call: Call, tape: Tape) -> Callable[..., Any] | None:
    """A quicker function on a CPU: for a softmax over a short last dimension, and for max pooling."""
    if not call.args or not isinstance(call.args[0], Slot) or tape.tensors[call.args[0].number].device.type != "cpu":
        return None
    if call.function is aten.max_pool2d_with_indices.default:
        return max_pool2d_with_indices
    x, softmax = tape.tensors[call.args[0].number], _SOFTMAXES.get(call.function)
    if softmax is None or x.ndim < 2 or x.shape[-1] > _SHORT:
        return None
    return softmax if call.args[_DIM_AT[call.function]] % x.ndim == x.ndim - 1 else None


def _log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    return torch.log_softmax(x.transpose(-1, -2), -2).transpose(-1, -2)


def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    return torch.softmax(x.transpose(-1, -2), -2).transpose(-1, -2)


def _log_softmax_backward(gradient: Tensor, found: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    gradient, found = gradient.transpose(-1, -2), found.transpose(-1, -2)
    turned: Tensor = aten._log_softmax_backward_data.default(gradient, found, gradient.ndim - 2, dtype)
    return turned.transpose(-1, -2)


def _softmax_backward(gradient: Tensor, found: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    gradient, found = gradient.transpose(-1, -2), found.transpose(-1, -2)
    turned: Tensor = aten._softmax_backward_data.default(gradient, found, gradient.ndim - 2, dtype)
    return turned.transpose(-1, -2)


_SOFTMAXES: dict[Any, Callable[..., Tensor]] = {
    aten._log_softmax.default: _log_softmax, aten._softmax.default: _softmax,
    aten._log_softmax_backward_data.default: _log_softmax_backward,
    aten._softmax_backward_data.default: _softmax_backward,
}
_DIM_AT = {
    aten._log_softmax.default: 1, aten._softmax.default: 1, aten._log_softmax_backward_data.default: 2,
    aten._softmax_backward_data.default: 2,
}


def _renamed(value: Any, same: dict[int, Slot]) -> Any:
    """The argument with slots replaced."""
    if isinstance(value, Slot):
        return same.get(value.number, value)
    if isinstance(value, dict):
        return {key: _renamed(item, same) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_renamed(item, same) for item in value)
    return value


def _is_transpose(call: Call) -> bool:
    return call.function is aten.transpose.int and {call.args[1] % 3, call.args[2] % 3} == {1, 2}


def _first(call: Call) -> Slot:
    slot = call.results[0]
    assert slot is not None
    return slot
