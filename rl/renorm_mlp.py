"""A multilayer perceptron with batch renormalisation, as CrossQ has it (Bhatt et al. 2024), by hand on a CPU.

The input is renormalised, then each hidden layer after its ReLU. ``BatchRenorm`` says what that is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable

from velodrome.rl.batch_renorm import BatchRenorm
from velodrome.rl.dense import by_hand, plain
from velodrome.rl.products import products
from velodrome.rl.renorm_kernels import normalize, pull


class RenormMlp(nn.Module):
    """Renormalisation, then linear layers with a ReLU and renormalisation after each but the last.

    In ``train()`` mode rows are normalised by the batch they are in, and the running statistics follow it; in
    ``eval()`` mode by the running statistics. In training on a CPU, ``backward`` has to come before the next
    ``forward`` with the same number of rows.

    Args:
        sizes: ``d_in``, the width of each hidden layer, ``d_out``.
        warmup: Updates before the corrections are used.
        generator: Draws the weights: uniform within ``1 / sqrt(inputs)``, as torch's linear layers are.

    Attributes:
        precision: Of the products in training on a CPU: ``float32`` or ``bfloat16`` (``products``).
    """

    def __init__(self, sizes: Sequence[int], *, warmup: int = 100_000, generator: Generator | None = None) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.norms = nn.ModuleList(BatchRenorm(size, warmup=warmup) for size in sizes[:-1])
        for num_in, num_out in pairwise(sizes):
            bound = 1.0 / math.sqrt(num_in)
            for shape, parameters in (((num_out, num_in), self.weights), ((num_out,), self.biases)):
                parameters.append(nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator)))
        self.precision = "float32"
        self._spaces: dict[tuple[int, str], _Space] = {}
        self._fixed_spaces: dict[Any, Any] = {}

    def forward(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """``[B, d_out]`` for x ``[B, d_in]``; if ``frozen``, gradients flow to x alone.

        In training B is at least 2. The running statistics are updated in training even if frozen.
        """
        if not self.training:
            return self._fixed(x, frozen)
        if torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype == torch.float32:
            space = self._spaces.get((len(x), self.precision))
            if space is None:
                widths = [*(weight.shape[1] for weight in self.weights), len(self.biases[-1])]
                space = self._spaces[len(x), self.precision] = _Space(len(x), widths, self.precision)
            parameters = [*self.weights, *self.biases, *(n.scale for n in self.norms), *(n.shift for n in self.norms)]
            if frozen:
                parameters = [p.detach() for p in parameters]
            norms: list[Any] = list(self.norms)
            result: Tensor = _ByHand.apply(x, space, norms, *parameters)  # type: ignore[no-untyped-call]  # torch
            return result
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            norm: Any = self.norms[i]
            x = norm(x, frozen=frozen)
            x = torch.addmm(bias.detach() if frozen else bias, x, (weight.detach() if frozen else weight).t())
            x = x.relu_() if i < last else x
        return x

    def _fixed(self, x: Tensor, frozen: bool) -> Tensor:
        """By the running statistics: each renormalisation is part of the linear layer that follows it."""
        weights, biases = [], []
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            norm: Any = self.norms[i]
            factor = norm.scale * (norm.variance + norm.eps).rsqrt()
            weights.append(weight * factor)
            biases.append(torch.addmv(bias, weight, norm.shift - norm.mean * factor))
        if not frozen or x.device.type != "cpu" or not torch.is_grad_enabled():
            return plain(x, weights, biases, "relu")
        weights, biases = [weight.detach() for weight in weights], [bias.detach() for bias in biases]
        return by_hand(x, weights, biases, "relu", self._fixed_spaces, self.precision)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spaces": {}, "_fixed_spaces": {}}


class _Space:
    """The arrays of one batch size: each layer's input before and after it is normalised, and the gradients by it."""

    def __init__(self, num_rows: int, widths: Sequence[int], precision: str) -> None:
        self.before = [torch.empty(num_rows, width) for width in widths[:-1]]
        self.after = [torch.empty(num_rows, width) for width in widths[:-1]]
        self.gradients = [torch.empty(num_rows, width) for width in widths[:-1]]
        self.saved = [torch.empty(4, width) for width in widths[:-1]]
        self.products = products(num_rows, widths, precision)
        self.num_uses = 0


class _ByHand(torch.autograd.Function):
    """The network as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, space: _Space, norms: list[BatchRenorm], *parameters: Tensor) -> Tensor:
        depth = len(norms)
        weights, biases = parameters[:depth], parameters[depth:2 * depth]
        space.num_uses += 1
        ctx.space, ctx.use, ctx.parameters = space, space.num_uses, parameters
        space.before[0].copy_(x)
        for i, norm in enumerate(norms):
            normalize(
                space.before[i].numpy(), norm.scale.detach().numpy(), norm.shift.detach().numpy(), norm.mean.numpy(),
                norm.variance.numpy(), norm.is_warm, norm.momentum, norm.eps, norm.max_r, norm.max_d,
                space.after[i].numpy(), space.saved[i].numpy(),
            )
            norm.num_updates += 1
            if i + 1 < depth:
                space.products[i].forward(space.after[i], weights[i], biases[i], space.before[i + 1]).relu_()
        return space.products[-1].forward(space.after[-1], weights[-1], biases[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        space = ctx.space
        if ctx.use != space.num_uses:
            raise RuntimeError("RenormMlp: backward comes after another forward with as many rows; call it before that")
        depth = len(space.before)
        weights, scales = ctx.parameters[:depth], ctx.parameters[2 * depth:3 * depth]
        learns = ctx.needs_input_grad[3]
        by: list[Tensor | None] = [None] * (4 * depth)
        for i in range(depth - 1, -1, -1):
            product = space.products[i]
            if learns:
                by[i] = product.by_weight(gradient, space.after[i], weights[i].grad)
                by[depth + i] = gradient.sum(0)
            by_scale, by_shift = torch.zeros_like(scales[i]), torch.zeros_like(scales[i])
            by_after = product.by_input(gradient, weights[i], space.after[i])  # which is not needed any more
            gradient = space.gradients[i]
            pull(
                by_after.numpy(), space.before[i].numpy(), scales[i].detach().numpy(), space.saved[i].numpy(), i > 0,
                by_scale.numpy(), by_shift.numpy(), gradient.numpy(),
            )
            if learns:
                by[2 * depth + i], by[3 * depth + i] = by_scale, by_shift
        return gradient.clone() if ctx.needs_input_grad[0] else None, None, None, *by
