"""The NaN guard: names the first thing that is no finite number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from velodrome.errors import Diverged


def check_finite(
    inputs: Mapping[str, Tensor], modules: Mapping[str, nn.Module], results: Mapping[str, Tensor] | None = None, *,
    where: str,
) -> None:
    """Raises Diverged with the first that is not finite: there is one.

    Args:
        inputs: Tensors by name; looked at first.
        modules: Whose weights come next, and whose gradients come last, by name.
        results: What was computed with them, in that order.
        where: Ends the message: ``"in update 12"``.
    """
    named: list[tuple[str, Tensor | None]] = list(inputs.items())
    for owner, module in modules.items():
        named += [(f"weights {owner}.{name}", p) for name, p in module.named_parameters()]
    named += (results or {}).items()
    for owner, module in modules.items():
        named += [(f"gradient of {owner}.{name}", p.grad) for name, p in module.named_parameters()]
    for name, tensor in named:
        if tensor is not None and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = tensor.detach().flatten()
            raise Diverged(f"{name}: {float(bad[~torch.isfinite(bad)][0])} {where}")
    raise Diverged(f"the gradient's length is infinite {where}")
