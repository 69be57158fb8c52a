"""From observations or features to the values of actions: duelling, noisy and distributional by switches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from velodrome.rl.dense import Mlp
from velodrome.rl.networks import activation_named, linear
from velodrome.rl.policy import ImageTrunk

_LAST_GAIN = 0.01
"""Of the last layer: values begin near 0, as alike as actions mostly are. Larger differences must be unlearnt first."""


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

    Linear layers with an activation after each but the last. With ``dueling``, the last gives a state's value and the
    actions' advantages, of which the mean is taken away (Wang et al. 2016, equation 9; their two streams have hidden
    layers of their own, here they share them).

    Args:
        sizes: Size of what comes in, and units of each hidden layer.
        num_actions: A.
        num_atoms: K; 1 for plain values.
        dueling: See above.
        noisy: Whether the layers are noisy, but for the first of several, which sees observations.
        activation: ``"tanh"`` or ``"relu"``.
        trunk: What makes features of images first; None for vectors.
        generator: Draws the weights.
    """

    def __init__(
        self, sizes: Sequence[int], num_actions: int, *, num_atoms: int = 1, dueling: bool = False,
        noisy: bool = False, activation: str = "relu", trunk: ImageTrunk | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_atoms, self.dueling, self.trunk = num_atoms, dueling, trunk
        whole = [*sizes, (num_actions + dueling) * num_atoms]
        if noisy:
            self.layers: nn.Module = _noisy_layers(whole, activation, generator)
        else:
            self.layers = Mlp(whole, activation=activation, gain=_LAST_GAIN, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Of vectors ``[B, D]`` or images: values ``[B, A]``, or, with several atoms, ``[B, A, K]``."""
        return self.combine(self.layers(x if self.trunk is None else self.trunk(x)))

    def combine(self, out: Tensor) -> Tensor:
        """The same, of what the last layer gave."""
        if self.num_atoms > 1:
            out = out.view(len(out), -1, self.num_atoms)
        if not self.dueling:
            return out
        advantage = out[:, 1:]
        return out[:, :1] + advantage - advantage.mean(1, keepdim=True)

    def resample(self, generator: Generator | None = None) -> None:
        """Draws new noise for all noisy layers; there may be none."""
        for layer in self.layers.children():
            if isinstance(layer, NoisyLinear):
                layer.resample(generator)


class QuickMlp:
    """What an ``Mlp`` on the CPU gives, by NumPy: for a few rows in less than half the time.

    It reads the weights where they lie, so it goes along when they are changed in place, and only then.
    """

    def __init__(self, mlp: Mlp) -> None:
        layers = [(w.detach().numpy().T, b.detach().numpy()) for w, b in zip(mlp.weights, mlp.biases, strict=True)]
        *self._hidden, self._last = layers
        self._is_tanh = mlp.activation == "tanh"

    def __call__(self, x: Tensor) -> Tensor:
        """``[B, d_out]`` of ``[B, d_in]``, without a graph."""
        array = x.numpy()
        for weight, bias in self._hidden:
            array = array @ weight
            array += bias
            np.tanh(array, out=array) if self._is_tanh else np.maximum(array, 0.0, out=array)
        out = array @ self._last[0]
        out += self._last[1]
        return torch.from_numpy(out)


def _noisy_layers(sizes: Sequence[int], activation: str, generator: Generator | None) -> nn.Sequential:
    activate = activation_named(activation)
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(sizes)):
        if i == 0 and len(sizes) > 2:
            layers.append(linear(before, after, gain=math.sqrt(2.0), generator=generator))
        else:
            layers.append(NoisyLinear(before, after, generator=generator))
        layers.append(activate())
    return nn.Sequential(*layers[:-1])
