"""The three products of matrices that a linear layer is made of on a CPU, in float32 or in bfloat16.

Products are most of the time of SAC and CrossQ. In bfloat16 both factors are rounded to 8 bits of mantissa and sums
are float32's, which is twice as quick where the processor has instructions for it. Weights, what lies between layers,
optimisers and losses stay in float32 (Kalamkar et al. 2019, "A Study of BFLOAT16"). Narrow layers, the first and the
last, stay in float32 as well: they cost little, and hold observations, actions and values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_NARROW = 24
"""Products with so few columns are quicker the other way round: 23 us in place of 153 for 64 x 2,048 by 2,048 x 4."""

_WIDE = 128
"""From so many units on both sides a layer's products are in bfloat16, if that is the precision."""

_MANY = 64
"""From so many rows, as minibatches have. With fewer a policy acts: its evaluation on a CPU is what playing gives."""

_GAIN, _NUM_TIMINGS = 1.2, 5
"""So many times as quick bfloat16 has to be, in the best of so many trials."""


class Product:
    """The products of one layer with weights W ``[H, D]``, in the precision of its inputs."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor | None = None) -> Tensor:
        """``x W^T + bias``, ``[B, H]`` for x ``[B, D]``."""
        return torch.addmm(bias, x, weight.t(), out=out)

    def by_weight(self, gradient: Tensor, x: Tensor, into: Tensor | None) -> Tensor | None:
        """``gradient^T x``, the gradient by W; where there is one already, added to that at once: None.

        In bfloat16 it comes after ``forward`` with x and before ``by_input``.
        """
        if into is None:
            return torch.mm(gradient.t(), x)
        if x.shape[1] <= _NARROW < gradient.shape[1]:
            into.add_(torch.mm(x.t(), gradient).t())
        else:
            into.addmm_(gradient.t(), x)
        return None

    def by_input(self, gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """``gradient W``, the gradient by x, ``[B, D]``."""
        if out is None or not weight.shape[1] <= _NARROW < weight.shape[0]:
            return torch.mm(gradient, weight, out=out)
        return out.copy_(torch.mm(weight.t(), gradient.t()).t())


class HalfProduct(Product):
    """The same for float32 in bfloat16: factors are rounded, results are bfloat16's as float32.

    Args:
        num_rows: B.
        num_in: D.
        num_out: H.
    """

    def __init__(self, num_rows: int, num_in: int, num_out: int) -> None:
        self._x, self._y, self._weight, self._by_weight = (
            torch.empty(shape, dtype=torch.bfloat16)
            for shape in ((num_rows, num_in), (num_rows, num_out), (num_out, num_in), (num_out, num_in))
        )

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor | None = None) -> Tensor:
        """See ``Product``."""
        torch.mm(self._x.copy_(x), self._weight.copy_(weight).t(), out=self._y)
        return torch.add(bias, self._y, out=out)

    def by_weight(self, gradient: Tensor, x: Tensor, into: Tensor | None) -> Tensor | None:
        """See ``Product``."""
        torch.mm(self._y.copy_(gradient).t(), self._x, out=self._by_weight)
        if into is None:
            return self._by_weight.float()
        into.add_(self._by_weight)
        return None

    def by_input(self, gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """See ``Product``."""
        torch.mm(self._y.copy_(gradient), self._weight, out=self._x)
        return self._x.float() if out is None else out.copy_(self._x)


def products(num_rows: int, widths: Sequence[int], precision: str) -> list[Product]:
    """A product for each layer between ``widths``, for batches of B rows."""
    is_half = precision == "bfloat16" and num_rows >= _MANY
    return [HalfProduct(num_rows, *pair) if is_half and min(pair) >= _WIDE else Product() for pair in pairwise(widths)]


def choose_product_precision(wanted: str, num_rows: int, width: int, device: torch.device) -> str:
    """``float32`` or ``bfloat16``, for layers of ``width`` units and batches of B rows; on a GPU the other is ``tf32``.

    Args:
        wanted: ``float32``, ``bfloat16``, or ``auto``: what is quicker; on a CPU a trial of some milliseconds tells.
        num_rows: B.
        width: H.
        device: Where the network learns.
    """
    is_large = num_rows >= _MANY and width >= _WIDE
    if device.type != "cpu":
        return "tf32" if wanted == "bfloat16" or (wanted == "auto" and is_large) else "float32"
    if wanted != "auto":
        return wanted
    if not (is_large and torch.cpu.get_capabilities().get("avx512_bf16", False)):
        return "float32"
    return "bfloat16" if _gain(num_rows, width) > _GAIN else "float32"


def compute_in(precision: str, networks: Iterable[Any], device: torch.device) -> None:
    """Sets the precision of perceptrons on a CPU; on a GPU that of all products of float32 in the process.

    TF32 rounds factors to 10 bits of mantissa; sums are float32's.
    """
    for network in networks:
        network.precision = precision
    if device.type != "cpu":
        torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"


@cache
def _gain(num_rows: int, width: int) -> float:
    """How many times as quick a layer of H by H is in bfloat16, forward and backward."""
    x, weight, bias, out = (torch.zeros(s) for s in ((num_rows, width), (width, width), (width,), (num_rows, width)))
    into = torch.zeros_like(weight)

    def passes(product: Product) -> Callable[[], None]:
        def run() -> None:
            product.forward(x, weight, bias, out)
            product.by_weight(out, x, into)
            product.by_input(out, weight, out)
        return run

    return _time_s(passes(Product())) / _time_s(passes(HalfProduct(num_rows, width, width)))


def _time_s(run: Callable[[], None]) -> float:
    """The shortest time of a run, after one to warm up."""
    times = []
    for _ in range(1 + _NUM_TIMINGS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times[1:])
