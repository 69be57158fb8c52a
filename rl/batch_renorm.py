"""Batch renormalisation (Ioffe 2017), which CrossQ's networks need (Bhatt et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchRenorm(nn.Module):
    """Normalises each feature over the batch, corrected towards what evaluation will do.

    In training, ``y = (x - mean) / std * r + d`` with the batch's mean and deviation, and constants ``r = std /
    running std`` and ``d = (mean - running mean) / running std``, both clipped: as long as they are not clipped,
    training and evaluation give the same numbers, and only the gradients are those of batch normalisation. While the
    running statistics are young (``warmup``), ``r = 1`` and ``d = 0``, which is plain batch normalisation. In
    ``eval()`` mode the running statistics are used. A learnt scale and shift follow.

    Args:
        num_features: H.
        momentum: What is kept of the running statistics at each update.
        warmup: Updates before r and d are used.
        max_r: r stays within ``[1 / max_r, max_r]``.
        max_d: d stays within ``[-max_d, max_d]``.
        eps: Added to the variance. The defaults are CrossQ's.
    """

    def __init__(
        self, num_features: int, *, momentum: float = 0.99, warmup: int = 100_000, max_r: float = 3.0,
        max_d: float = 5.0, eps: float = 1e-3,
    ) -> None:
        super().__init__()
        self.momentum, self.warmup, self.max_r, self.max_d, self.eps = momentum, warmup, max_r, max_d, eps
        self.scale, self.shift = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        self.mean: Tensor
        self.variance: Tensor
        self.num_updates: Tensor
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("variance", torch.ones(num_features))
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))

    @property
    def is_warm(self) -> bool:
        """Whether r and d are used."""
        return int(self.num_updates) >= self.warmup

    def forward(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """``[B, H]`` of ``[B, H]``; in training, B is at least 2. If ``frozen``, gradients flow to x alone."""
        scale, shift = (self.scale.detach(), self.shift.detach()) if frozen else (self.scale, self.shift)
        if not self.training:
            return (x - self.mean) * (self.variance + self.eps).rsqrt() * scale + shift
        variance, mean = torch.var_mean(x, 0, correction=0)
        std = (variance + self.eps).sqrt()
        r, d = self._corrections(mean, std)
        with torch.no_grad():
            self.mean.lerp_(mean, 1.0 - self.momentum)
            self.variance.lerp_(variance, 1.0 - self.momentum)
            self.num_updates += 1
        return ((x - mean) / std * r + d) * scale + shift

    @torch.no_grad()
    def _corrections(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """The constants r and d for a batch with these statistics; no gradient flows through them."""
        running_std = (self.variance + self.eps).sqrt()
        is_warm = self.num_updates >= self.warmup
        r = torch.where(is_warm, (std / running_std).clamp(1.0 / self.max_r, self.max_r), 1.0)
        d = torch.where(is_warm, ((mean - self.mean) / running_std).clamp(-self.max_d, self.max_d), 0.0)
        return r, d
