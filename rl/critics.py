"""An ensemble of critics for SAC and its kin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from velodrome.errors import UsageError, nearest
from velodrome.rl.batch_renorm import BatchRenorm
from velodrome.rl.networks import activation_named

NORMS = ("none", "layer", "batch")
"""The normalisations of a ``CriticEnsemble``."""


class CriticEnsemble(nn.Module):
    """M networks of ``Q(s, a)``, computed as one batched product per layer (faster than M modules on small networks).

    Args:
        num_in: Size of an observation and an action together.
        sizes: Units of each hidden layer.
        num_critics: M.
        activation: ``"relu"`` or ``"tanh"``.
        norm: ``"none"``; ``"layer"``: each hidden layer is normalised before its activation (Ba et al. 2016);
            ``"batch"``: the input is, and each hidden layer after its activation, by ``BatchRenorm``, as in CrossQ.
        generator: Draws the weights: uniform within ``1 / sqrt(inputs)``, as torch's linear layers are.
    """

    def __init__(
        self, num_in: int, sizes: Sequence[int] = (256, 256), *, num_critics: int = 2, activation: str = "relu",
        norm: str = "none", generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UsageError("There is no such normalisation", given=norm, allowed=", ".join(NORMS),
                             hint=nearest(norm, NORMS))
        self.activation = activation_named(activation)()
        self.norm = norm
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for before, after in itertools.pairwise((num_in, *sizes, 1)):
            bound = 1.0 / math.sqrt(before)
            for parameters, rows in ((self.weights, before), (self.biases, 1)):
                drawn = torch.empty(num_critics, rows, after).uniform_(-bound, bound, generator=generator)
                parameters.append(nn.Parameter(drawn))
        batch_normed = (num_in, *sizes) if norm == "batch" else ()
        self.renorms = nn.ModuleList(BatchRenorm(num_critics, size) for size in batch_normed)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """``[M, B]`` of observations ``[B, O]`` and actions ``[B, D]``."""
        x = torch.cat([obs, action], -1).expand(len(self.weights[0]), -1, -1)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.norm == "batch":
                x = self.renorms[i](x)
            x = torch.baddbmm(bias, x, weight)
            if i < last:
                x = functional.layer_norm(x, x.shape[-1:]) if self.norm == "layer" else x
                x = self.activation(x)
        return x.squeeze(-1)
