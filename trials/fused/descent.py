"""One model's optimiser: the kernels of ``torch.optim``'s fused classes, without the classes.

What they do around a kernel takes longer than the kernel where a model is small, and the first of them in a process
loads torch's compiler, which takes seconds. The numbers are theirs to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from velodrome.trials.optimizers import SGD, Adam, AdamW, OptimizerSpec, RMSprop

Slots = dict[str, dict[str, Tensor]]
"""What an optimiser remembers: by slot (``"exp_avg"``), then by the parameter's name."""


@dataclass(slots=True)
class _Part:
    """Parameters of one type that have made the same number of steps, which is ``count``."""

    names: list[str]
    parameters: list[Tensor]
    slots: dict[str, list[Tensor]]
    count: Tensor

    def taken(self, places: list[int]) -> _Part:
        """Some of them."""
        slots = {name: [values[i] for i in places] for name, values in self.slots.items()}
        return _Part([self.names[i] for i in places], [self.parameters[i] for i in places], slots, self.count.clone())


class Descent:
    """Steps down the gradients of parameters.

    Args:
        spec: The optimiser.
        parameters: By name; those that are trained.
    """

    def __init__(self, spec: OptimizerSpec, parameters: Mapping[str, Tensor]) -> None:
        self._spec, self._parameters = spec, dict(parameters)
        self.load(0, {})

    def update(self, lr: float) -> None:
        """A step down each parameter's ``grad``; one that has none stays where it is."""
        with torch.no_grad():
            for part in self._with_gradients():
                part.count.add_(1)
                _descend(self._spec, lr, part, [p.grad for p in part.parameters if p.grad is not None])

    def slots(self) -> Slots:
        """What it remembers, itself; nothing of parameters that never had a gradient."""
        found: Slots = {}
        for part in self._parts:
            for slot, values in part.slots.items() if part.count.item() else ():
                found.setdefault(slot, {}).update(zip(part.names, values, strict=True))
        return found

    def load(self, step: int, slots: Slots) -> None:
        """Goes on from there: parameters that are remembered have made ``step`` steps, others none."""
        alike: dict[Any, list[str]] = {}
        remembered = {name for values in slots.values() for name in values}
        for name, p in self._parameters.items():
            alike.setdefault((p.dtype, p.device, name in remembered), []).append(name)
        self._parts = []
        for (_, device, is_remembered), names in alike.items():
            parameters = [self._parameters[name] for name in names]
            own = {slot: [_like(p, slots.get(slot, {}).get(name)) for name, p in zip(names, parameters, strict=True)]
                   for slot in _slots_of(self._spec)}
            count = torch.tensor(float(step if is_remembered else 0), device=device)
            self._parts.append(_Part(names, parameters, own, count))

    def _with_gradients(self) -> list[_Part]:
        """The parts that have gradients; one of which only some have is parted, for each counts its own steps."""
        found, parts = [], []
        for part in self._parts:
            has = [p.grad is not None for p in part.parameters]
            if any(has) and not all(has):
                found.append(part.taken([i for i, given in enumerate(has) if given]))
                parts += [found[-1], part.taken([i for i, given in enumerate(has) if not given])]
            else:
                found += [part] if has[0] else []
                parts.append(part)
        self._parts = parts
        return found


def _slots_of(spec: OptimizerSpec) -> tuple[str, ...]:
    match spec:
        case SGD():
            return ("momentum_buffer",) if spec.momentum else ()
        case Adam() | AdamW():
            return "exp_avg", "exp_avg_sq"
        case RMSprop():
            return ("square_avg", "momentum_buffer") if spec.momentum else ("square_avg",)


def _like(parameter: Tensor, value: Tensor | None) -> Tensor:
    """A copy of the value as the parameter lies in memory; zero where there is none."""
    kept = torch.zeros_like(parameter, requires_grad=False)
    return kept if value is None else kept.copy_(value)


def _descend(spec: OptimizerSpec, lr: float, part: _Part, gradients: list[Tensor]) -> None:
    """One step of parameters that all have a gradient."""
    parameters, decay = part.parameters, spec.weight_decay
    match spec:
        case SGD():
            torch._fused_sgd_(
                parameters, gradients, part.slots.get("momentum_buffer", []), weight_decay=decay,
                momentum=spec.momentum, lr=lr, dampening=0.0, nesterov=spec.nesterov, maximize=False,
                is_first_step=False,
            )
        case Adam() | AdamW():
            kernel = torch._fused_adam_ if type(spec) is Adam else torch._fused_adamw_
            kernel(
                parameters, gradients, part.slots["exp_avg"], part.slots["exp_avg_sq"], [],
                [part.count] * len(parameters), lr=lr, beta1=spec.beta1, beta2=spec.beta2, weight_decay=decay,
                eps=spec.eps, amsgrad=False, maximize=False,
            )
        case RMSprop():
            _rmsprop(spec, lr, part, gradients)


def _rmsprop(spec: RMSprop, lr: float, part: _Part, gradients: list[Tensor]) -> None:
    """It has no fused kernel: operations on all tensors at once."""
    if spec.weight_decay:
        gradients = list(torch._foreach_add(gradients, part.parameters, alpha=spec.weight_decay))
    squares = part.slots["square_avg"]
    torch._foreach_mul_(squares, spec.alpha)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - spec.alpha)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, spec.eps)
    if not spec.momentum:
        torch._foreach_addcdiv_(part.parameters, gradients, roots, value=-lr)
        return
    buffers = part.slots["momentum_buffer"]
    torch._foreach_mul_(buffers, spec.momentum)
    torch._foreach_addcdiv_(buffers, gradients, roots)
    torch._foreach_add_(part.parameters, buffers, alpha=-lr)
