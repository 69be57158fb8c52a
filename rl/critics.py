"""Action values: heads for deep Q-learning (duelling, noisy, distributional), and an ensemble of critics for SAC."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from velodrome.errors import UsageError, nearest
from velodrome.rl.batch_renorm import BatchRenorm
from velodrome.rl.networks import activation_named, linear

NORMS = ("none", "layer", "batch")
"""The normalisations of a ``CriticEnsemble``."""


class NoisyLinear(nn.Module):
    """A linear layer with learnt, factorised Gaussian noise (Fortunato et al. 2018, equations 9 to 11).

    The noise stays the same until ``resample``; in ``eval()`` mode there is none.

    Args:
        num_in: Size of an input.
        num_out: Size of an output.
        sigma: The noise's deviation at the start, times ``1 / sqrt(num_in)``.
        generator: Draws the weights and the first noise.
    """

    def __init__(self, num_in: int, num_out: int, *, sigma: float = 0.5, generator: Generator | None = None) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(num_in)
        self.weight = nn.Parameter(torch.empty(num_out, num_in).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(num_out).uniform_(-bound, bound, generator=generator))
        self.weight_sigma = nn.Parameter(torch.full((num_out, num_in), sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full((num_out,), sigma * bound))
        self.noise_in: Tensor
        self.noise_out: Tensor
        self.register_buffer("noise_in", torch.zeros(num_in))
        self.register_buffer("noise_out", torch.zeros(num_out))
        self.resample(generator)

    @torch.no_grad()
    def resample(self, generator: Generator | None = None) -> None:
        """Draws new noise; the generator is on the module's device."""
        for noise in (self.noise_in, self.noise_out):
            noise.normal_(generator=generator)
            noise.copy_(noise.sign() * noise.abs().sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """``[..., num_out]`` of ``[..., num_in]``."""
        if not self.training:
            return functional.linear(x, self.weight, self.bias)
        weight = torch.addcmul(self.weight, self.weight_sigma, torch.outer(self.noise_out, self.noise_in))
        return functional.linear(x, weight, torch.addcmul(self.bias, self.bias_sigma, self.noise_out))


class QHead(nn.Module):
    """Values of each action, or logits or quantiles of their distributions.

    Args:
        num_features: F.
        num_actions: A.
        num_atoms: K; 1 for plain values.
        dueling: Whether to add a state's value and the actions' advantages, less their mean (Wang et al. 2016,
            equation 9).
        noisy: Whether the layers are noisy.
        generator: Draws the weights.
    """

    def __init__(
        self, num_features: int, num_actions: int, *, num_atoms: int = 1, dueling: bool = False, noisy: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_atoms = num_atoms

        def layer(num_out: int) -> nn.Module:
            if noisy:
                return NoisyLinear(num_features, num_out, generator=generator)
            return linear(num_features, num_out, gain=1.0, generator=generator)

        self.advantage = layer(num_actions * num_atoms)
        self.value = layer(num_atoms) if dueling else None

    def forward(self, features: Tensor) -> Tensor:
        """Of features ``[..., F]``: values ``[..., A]``, or, with several atoms, ``[..., A, K]``."""
        q: Tensor = self.advantage(features).unflatten(-1, (-1, self.num_atoms))
        if self.value is not None:
            q = self.value(features).unsqueeze(-2) + q - q.mean(-2, keepdim=True)
        return q if self.num_atoms > 1 else q.squeeze(-1)


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
