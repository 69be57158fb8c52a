"""A multilayer perceptron for a CPU, forward and backward by hand in memory of its own.

A network of two layers of 64 costs so little arithmetic that the framework takes as long: a graph node, a saved tensor
and a fresh page of memory for every small operation. ``Mlp`` is one node of the graph and keeps its arrays from one
call to the next: a third less time for 2,048 rows. Hyperbolic tangents are NumPy's, for another third of what was left.
The operations are those of ``torch.nn.Linear`` and the activation, the gradients those of autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import elu

from velodrome.rl.networks import activation_named
from velodrome.rl.products import Product, products

_HIDDEN_GAIN = math.sqrt(2.0)

_MAX_WORKSPACES = 8
"""For so many batch sizes the arrays are kept."""


class Mlp(nn.Module):
    """Linear layers with an activation after each but the last.

    In training on a CPU, ``backward`` has to come before the next ``forward`` with the same number of rows, whose
    activations take the place of the last ones; otherwise it raises.

    Args:
        sizes: ``d_in``, the width of each hidden layer, ``d_out``.
        activation: ``"tanh"``, ``"relu"`` or ``"elu"``.
        init: ``"orthogonal"`` weights and biases of 0, or both ``"uniform"`` within ``1 / sqrt(inputs)``.
        gain: Of the last layer's orthogonal weights (Andrychowicz et al. 2021: 0.01 for a policy, 1 for a value).
        generator: Draws the weights.

    Attributes:
        precision: Of the products in training on a CPU: ``float32`` or ``bfloat16`` (``products``).
    """

    def __init__(
        self, sizes: Sequence[int], *, activation: str = "tanh", init: str = "orthogonal", gain: float = 1.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.precision = activation, "float32"
        activation_named(activation)
        last = len(sizes) - 2
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for i, (num_in, num_out) in enumerate(pairwise(sizes)):
            weight, bias = torch.empty(num_out, num_in), torch.zeros(num_out)
            if init == "orthogonal":
                nn.init.orthogonal_(weight, gain if i == last else _HIDDEN_GAIN, generator=generator)
            else:
                for part in (weight, bias):
                    part.uniform_(-1.0 / math.sqrt(num_in), 1.0 / math.sqrt(num_in), generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))
        self._workspaces: dict[tuple[int, torch.dtype, str, str], Workspace] = {}
        self._layers: tuple[list[Tensor], list[Tensor]] | None = None
        self._frozen_layers: tuple[list[Tensor], list[Tensor]] = [], []

    def forward(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """``[B, d_out]`` for x ``[B, d_in]``; if ``frozen``, gradients flow to x alone."""
        weights, biases = self.layers
        if frozen:
            weights, biases = self._frozen_layers
        if x.device.type != "cpu":
            return plain(x, weights, biases, self.activation)
        if not torch.is_grad_enabled():
            space = workspace(self._workspaces, x, biases, self.precision, of="no grad")
            return forward(x, weights, biases, space, self.activation)
        return by_hand(x, weights, biases, self.activation, self._workspaces, self.precision)

    @property
    def layers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases, as lists: a list of parameters is slow to walk."""
        if self._layers is None:
            self._layers = list(self.weights), list(self.biases)
            self._frozen_layers = [w.detach() for w in self.weights], [b.detach() for b in self.biases]
        return self._layers

    def space_for(self, x: Tensor) -> Workspace:
        """The arrays for a forward and a backward with x, on a CPU."""
        return workspace(self._workspaces, x, self.layers[1], self.precision, of="grad")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_workspaces": {}, "_layers": None, "_frozen_layers": ([], [])}

    def _apply(self, *args: Any, **kwargs: Any) -> Mlp:
        self._layers = None  # moved to another device, parameters are other objects
        self._workspaces = {}
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch
        return self


def by_hand(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str,
    workspaces: dict[tuple[int, torch.dtype, str, str], Workspace], precision: str = "float32",
) -> Tensor:
    """``plain`` on a CPU as one node of the graph, whose arrays are kept in ``workspaces``; see ``Mlp``."""
    space = workspace(workspaces, x, biases, precision, of="grad")
    result: Tensor = _ByHand.apply(x, space, activation, *weights, *biases)  # type: ignore[no-untyped-call]  # torch
    return result


def workspace(
    workspaces: dict[tuple[int, torch.dtype, str, str], Workspace], x: Tensor, biases: Sequence[Tensor],
    precision: str, *, of: str,
) -> Workspace:
    """The arrays for batches like x; those of the least recent shape make room for them."""
    key = len(x), x.dtype, precision, of
    if key not in workspaces:
        while len(workspaces) >= _MAX_WORKSPACES:
            del workspaces[next(iter(workspaces))]
        workspaces[key] = Workspace(x, [len(b) for b in biases], precision)
    return workspaces[key]


class Workspace:
    """The arrays of one batch size: each hidden layer's output, and the gradient by it."""

    def __init__(self, x: Tensor, widths: Sequence[int], precision: str) -> None:
        self.products = products(len(x), [x.shape[1], *widths], precision)
        self.hidden = [x.new_empty(len(x), width) for width in widths[:-1]]
        self.gradients = [x.new_empty(len(x), width) for width in widths[:-1]]
        self.num_uses = 0


def plain(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str) -> Tensor:
    """The network's output ``[B, d_out]``, by the framework's own operations."""
    activate = {"tanh": torch.tanh, "relu": torch.relu, "elu": elu}[activation]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = activate(torch.addmm(bias, x, weight.t()))
    return torch.addmm(biases[-1], x, weights[-1].t())


def forward(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], space: Workspace, activation: str
) -> Tensor:
    """The network's output; what its hidden layers give goes to the workspace."""
    for product, weight, bias, out in zip(space.products, weights[:-1], biases[:-1], space.hidden, strict=False):
        x = product.forward(x, weight, bias, out)
        if activation == "tanh":
            numbers = x.numpy()
            np.tanh(numbers, out=numbers)  # as exact as torch's, and on one thread four to seven times as quick
        elif activation == "relu":
            torch.relu_(x)
        else:
            elu(x, inplace=True)
    return space.products[-1].forward(x, weights[-1], biases[-1])


class _ByHand(torch.autograd.Function):
    """The network as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, space: Workspace, activation: str, *parameters: Tensor) -> Tensor:
        depth = len(parameters) // 2
        weights, biases = parameters[:depth], parameters[depth:]
        space.num_uses += 1
        ctx.inputs, ctx.weights, ctx.space, ctx.use = [x, *space.hidden], weights, space, space.num_uses
        ctx.activation = activation
        return forward(x, weights, biases, space, activation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        check_use(ctx.space, ctx.use)
        needs_x, learns = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
        d_x, by_parameters = backward(gradient, ctx.inputs, ctx.weights, ctx.space, ctx.activation, needs_x=needs_x,
                                      learns=learns)
        return d_x, None, None, *by_parameters


def check_use(space: Workspace, use: int) -> None:
    """Raises RuntimeError if another forward wrote over what the ``use``-th one left."""
    if use != space.num_uses:
        raise RuntimeError("Mlp: backward comes after another forward with as many rows; call it before that")


def backward(
    gradient: Tensor, inputs: Sequence[Tensor], weights: Sequence[Tensor], space: Workspace, activation: str, *,
    needs_x: bool, learns: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Gradients by x, and by the weights and biases; None where not needed, or added up in place already."""
    d_weights: list[Tensor | None] = [None] * len(weights)
    d_biases: list[Tensor | None] = [None] * len(weights)
    for layer in range(len(weights) - 1, -1, -1):
        product: Product = space.products[layer]
        if learns:
            d_weights[layer] = product.by_weight(gradient, inputs[layer], weights[layer].grad)
            d_biases[layer] = gradient.sum(0)
        if layer:
            out = product.by_input(gradient, weights[layer], space.gradients[layer - 1])
            if activation == "tanh":
                torch.ops.aten.tanh_backward.grad_input(out, inputs[layer], grad_input=out)
            elif activation == "relu":
                torch.ops.aten.threshold_backward.grad_input(out, inputs[layer], 0, grad_input=out)
            else:
                torch.ops.aten.elu_backward.grad_input(out, 1, 1, 1, True, inputs[layer], grad_input=out)
            gradient = out
    return space.products[0].by_input(gradient, weights[0]) if needs_x else None, d_weights + d_biases
