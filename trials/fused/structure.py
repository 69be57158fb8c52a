"""What of a model can't be fused over: modules with their settings, names and kinds of tensors. The rest may differ.

Widths, rates of dropout and a module's own numbers are left out here: whether members that differ in those have the
same numbers in a group as alone is tried out (``partition``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from velodrome.trials.fused.rows import Shapes

_WIDTHS = frozenset({
    "in_features", "out_features", "in_channels", "out_channels", "num_features", "normalized_shape", "num_embeddings",
    "embedding_dim", "input_size", "hidden_size", "embed_dim", "kdim", "vdim", "head_dim", "in1_features",
    "in2_features", "num_channels", "p", "dropout", "training",
})
"""Attributes of torch's layers that follow from the shapes of tensors, or may differ."""


_RATES = frozenset({"p", "dropout"})


def structure_of(model: nn.Module) -> tuple[Any, ...]:
    """Equal for models that may be fused with one another."""
    modules = tuple((name, _type_of(module), _settings_of(module)) for name, module in model.named_modules())
    parameters = tuple((name, p.ndim, str(p.dtype), p.requires_grad) for name, p in model.named_parameters())
    buffers = tuple((name, b.ndim, str(b.dtype)) for name, b in model.named_buffers())
    return modules, parameters, buffers


def numbers_of(model: nn.Module) -> tuple[Any, ...]:
    """The rates of dropout, and the numbers that a user's own modules keep as attributes."""
    rates, numbers = [], []
    for name, module in model.named_modules():
        for key, value in _attributes(module):
            if _is_number(value) and not _is_torchs(module):
                numbers.append((name, key, _setting(value)))
            elif _is_number(value) and key in _RATES:
                rates.append((name, value))
    return tuple(rates), tuple(numbers)


def shapes_of(model: nn.Module) -> Shapes:
    """The shapes of parameters and buffers, by name."""
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def empty(model: nn.Module) -> None:
    """Takes the numbers out of a model, and leaves their shapes; modules that shared a tensor share it still."""
    known: dict[int, Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and id(tensor) not in known:
                    bare = torch.empty_like(tensor, device="meta", requires_grad=False)
                    is_parameter = isinstance(tensor, nn.Parameter)
                    known[id(tensor)] = nn.Parameter(bare, tensor.requires_grad) if is_parameter else bare
                if tensor is not None:
                    tensors[name] = known[id(tensor)]  # type: ignore[assignment]


def unsupported(model: nn.Module) -> str:
    """The first module that can't be in a group whatever it is used for, and why; empty where there is none."""
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase) and module.num_layers > 1 and module.dropout:
            return f"{named(name, module)} has dropout between its levels; use nn.Dropout between two layers"
        if isinstance(module, nn.LSTM) and module.proj_size:
            return f"{named(name, module)} has projections"
        if isinstance(module, nn.SyncBatchNorm):
            return f"{named(name, module)} talks to other processes"
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is None:
            return f"{named(name, module)} averages over all of its past (momentum=None)"
    return ""


def named(name: str, module: nn.Module) -> str:
    """A module as an error names it: ``head.1 (Dropout)``."""
    return f"{name} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"


def _settings_of(module: nn.Module) -> tuple[Any, ...]:
    leave = _WIDTHS if _is_torchs(module) else ("training",)
    found = [
        (key, _setting(value)) for key, value in _attributes(module)
        if key not in leave and (_is_torchs(module) or not _is_number(value))
    ]
    if isinstance(module, nn.MultiheadAttention):
        found.append(("drops", module.dropout > 0))  # it asks for no masks otherwise
    return tuple(found)


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What the module keeps itself, but for what every module has."""
    known = vars(nn.Module())
    return ((key, value) for key, value in sorted(vars(module).items())
            if key not in known and not isinstance(value, Tensor) and not key.startswith("_flat_weight"))


def _setting(value: Any) -> Any:
    """Something to compare the value by."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return tuple(_setting(item) for item in value)
    if isinstance(value, Mapping):
        return tuple((str(key), _setting(item)) for key, item in value.items())
    code = getattr(value, "__code__", None)
    if code is not None:
        return value.__module__, value.__qualname__, code.co_code, str(code.co_consts)
    return f"{type(value).__module__}.{type(value).__qualname__}", str(getattr(value, "__name__", ""))


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_number(item) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_torchs(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn")


def _type_of(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
