"""Drawing from a squashed Gaussian as one node of the graph: the action, its log-density, and their gradients.

On a CPU the dozens of small operations that ``SquashedGaussian`` is made of take as long as the network. Here one
compiled loop does them; elsewhere ``SquashedGaussian`` is used. Both give the same numbers, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from velodrome.rl.gaussians import SquashedGaussian

Floats = NDArray[np.float32]

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""What the log standard deviation is clamped to (Haarnoja et al. 2018, their code)."""

_HALF_LOG_2_PI, _LOG_2 = 0.5 * math.log(2.0 * math.pi), math.log(2.0)


def squashed(head: Tensor) -> SquashedGaussian:
    """The distribution that a network's last layer ``[B, 2 K]``, means and log-deviations, stands for."""
    mean, log_std = head.chunk(2, -1)
    return SquashedGaussian(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))


def sample_squashed(head: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """An action ``[B, K]`` and its log-density ``[B]``; gradients flow through both, to the head ``[B, 2 K]``."""
    if head.device.type != "cpu":
        return squashed(head).sample_with_log_prob(generator)
    noise = torch.randn(len(head), head.shape[1] // 2, generator=generator)
    drawn: tuple[Tensor, Tensor] = _Squash.apply(head, noise)  # type: ignore[no-untyped-call]  # torch
    return drawn


class _Squash(torch.autograd.Function):
    """The kernels below as a node."""

    @staticmethod
    def forward(ctx: Any, head: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        action, log_prob = torch.empty_like(noise), torch.empty(len(noise))
        _draw(head.detach().numpy(), noise.numpy(), action.numpy(), log_prob.numpy())
        ctx.save_for_backward(head, noise, action)
        return action, log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_action: Tensor, by_log_prob: Tensor) -> tuple[Tensor, None]:
        head, noise, action = ctx.saved_tensors
        gradient = torch.empty_like(head)
        _pull(head.numpy(), noise.numpy(), action.numpy(), by_action.numpy(), by_log_prob.contiguous().numpy(),
              gradient.numpy())
        return gradient, None


def _draw_python(head: Floats, noise: Floats, action: Floats, log_prob: Floats) -> None:
    """``u = mean + std noise``, ``a = tanh(u)``, and the log of the density at a: the Gaussian's, less tanh's slope."""
    num_rows, num_dims = noise.shape
    for b in range(num_rows):
        total = 0.0
        for k in range(num_dims):
            log_std = min(max(head[b, num_dims + k], LOG_STD_MIN), LOG_STD_MAX)
            u = head[b, k] + math.exp(log_std) * noise[b, k]
            action[b, k] = math.tanh(u)
            log_slope = 2.0 * (_LOG_2 - abs(u) - math.log1p(math.exp(-2.0 * abs(u))))
            total += -0.5 * noise[b, k] * noise[b, k] - log_std - _HALF_LOG_2_PI - log_slope
        log_prob[b] = total


def _pull_python(
    head: Floats, noise: Floats, action: Floats, by_action: Floats, by_log_prob: Floats, gradient: Floats
) -> None:
    """The gradient by the head: ``da/du = 1 - a^2``, ``d log_prob / du = 2 a``, ``d log_prob / d log_std = -1``."""
    num_rows, num_dims = noise.shape
    for b in range(num_rows):
        for k in range(num_dims):
            a = action[b, k]
            by_u = by_action[b, k] * (1.0 - a * a) + by_log_prob[b] * 2.0 * a
            raw = head[b, num_dims + k]
            gradient[b, k] = by_u
            by_log_std = by_u * math.exp(min(max(raw, LOG_STD_MIN), LOG_STD_MAX)) * noise[b, k] - by_log_prob[b]
            gradient[b, num_dims + k] = by_log_std if LOG_STD_MIN <= raw <= LOG_STD_MAX else 0.0


_draw: Callable[..., None] = numba.njit(cache=True, nogil=True, error_model="numpy")(_draw_python)
_pull: Callable[..., None] = numba.njit(cache=True, nogil=True, error_model="numpy")(_pull_python)
