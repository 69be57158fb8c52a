"""Distributions over real actions: the diagonal Gaussian of PPO, and the Gaussian squashed by tanh of SAC.

Shapes and conventions are those of ``distributions``: ``[..., D]`` for D action dimensions, sums over D, nats.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)
_HALF_LOG_2_PI_E = 0.5 * math.log(2.0 * math.pi * math.e)


class DiagonalGaussian:
    """Independent normal actions.

    Store and learn from the actions as they are drawn. To keep to an environment's bounds, clip a copy on the way
    into it: the density is that of the unclipped action.

    Args:
        mean: ``[..., D]``.
        log_std: ``[D]`` where it does not depend on the state, or ``[..., D]``.
    """

    __slots__ = ("log_std", "mean")

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std

    def sample(self, generator: Generator | None = None) -> Tensor:
        """``[..., D]``, without gradient."""
        with torch.no_grad():
            return self.rsample(generator)

    def rsample(self, generator: Generator | None = None) -> Tensor:
        """``[..., D]``; gradients flow to the mean and the deviation (Kingma and Welling 2014)."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return torch.addcmul(self.mean, self.log_std.exp(), noise)

    def mode(self) -> Tensor:
        """``[..., D]``, the mean."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """The log of the density at ``action``, ``[..., D]``."""
        z = (action - self.mean) * (-self.log_std).exp()
        return -0.5 * z.square().sum(-1) - (self.log_std.sum(-1) + self.mean.shape[-1] * _HALF_LOG_2_PI)

    def entropy(self) -> Tensor:
        """The differential entropy, which may be negative."""
        return (self.log_std.sum(-1) + self.mean.shape[-1] * _HALF_LOG_2_PI_E).expand(self.mean.shape[:-1])

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """``log(s'/s) + (s^2 + (m - m')^2) / (2 s'^2) - 1/2``, summed over D."""
        log_ratio = self.log_std - other.log_std
        z = (self.mean - other.mean) * (-other.log_std).exp()
        return 0.5 * ((2.0 * log_ratio).exp() + z.square() - 1.0 - 2.0 * log_ratio).sum(-1)


class SquashedGaussian:
    """``tanh`` of a diagonal Gaussian: actions in (-1, 1) (Haarnoja et al. 2018, appendix C).

    The density at ``a = tanh(u)`` is the Gaussian's at u over ``prod (1 - tanh(u)^2)``, whose log is computed as
    ``2 (log 2 - u - softplus(-2 u))``: accurate for any u, where ``log(1 - a^2)`` is -inf from u = 9 on in float32.
    There is no ``entropy()``: it has no closed form, and SAC estimates it as ``-log_prob``. Environment bounds other
    than (-1, 1) are the caller's to scale to; the density stays that of the unscaled action.

    Args:
        mean: ``[..., D]``, before tanh.
        log_std: ``[..., D]`` or ``[D]``, before tanh.
    """

    __slots__ = ("before_tanh",)

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.before_tanh = DiagonalGaussian(mean, log_std)

    def sample(self, generator: Generator | None = None) -> Tensor:
        """``[..., D]``, without gradient."""
        return self.before_tanh.sample(generator).tanh()

    def sample_with_log_prob(self, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """An action ``[..., D]`` and its log-density ``[...]``; gradients flow through both (the SAC actor's)."""
        u = self.before_tanh.rsample(generator)
        return u.tanh(), self.log_prob_before_tanh(u)

    def mode(self) -> Tensor:
        """``[..., D]``, tanh of the mean: what is played when evaluating (the median, not the densest point)."""
        return self.before_tanh.mean.tanh()

    def log_prob(self, action: Tensor) -> Tensor:
        """The log of the density at ``action``, ``[..., D]``.

        An action that was rounded to -1 or 1 is taken for the nearest number inside: there, the result is finite but
        rough. Keep u and call ``log_prob_before_tanh`` where it matters.
        """
        edge = 1.0 - torch.finfo(action.dtype).eps
        return self.log_prob_before_tanh(action.clamp(-edge, edge).atanh())

    def log_prob_before_tanh(self, u: Tensor) -> Tensor:
        """The log of the density at ``tanh(u)``, for u ``[..., D]``."""
        return self.before_tanh.log_prob(u) - log_det_tanh(u).sum(-1)

    def kl(self, other: SquashedGaussian) -> Tensor:
        """That of the Gaussians: tanh is one to one, and changes no divergence."""
        return self.before_tanh.kl(other.before_tanh)


def log_det_tanh(u: Tensor) -> Tensor:
    """``log(1 - tanh(u)^2)`` of each element, without loss for large ``|u|``; at 0, 0."""
    return 2.0 * (math.log(2.0) - u - functional.softplus(-2.0 * u))
