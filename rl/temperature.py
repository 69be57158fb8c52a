"""The temperature of SAC and its kin: the weight of entropy, learnt so that the policy keeps as much as is aimed at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from velodrome.rl.flat import FlatAdam
from velodrome.rl.sac_losses import temperature_loss


class Temperature:
    """One positive number (Haarnoja et al. 2018, equation 18).

    Args:
        fixed: Its value for ever; 0 to learn it.
        start: Where a learnt one starts.
        target_entropy: What it steers the policy's entropy to, in nats.
        lr: Adam's learning rate.
        betas: Adam's.
        device: Where it is.
    """

    def __init__(
        self, *, fixed: float, start: float, target_entropy: float, lr: float, device: torch.device,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self._learns, self._target = not fixed, target_entropy
        holder = nn.Module()
        holder.log_alpha = nn.Parameter(torch.tensor(math.log(fixed or start), device=device))
        self._log_alpha: Tensor = holder.log_alpha
        self.adam = FlatAdam(holder, lr, betas=betas)

    @property
    def value(self) -> Tensor:
        """The temperature now, a scalar."""
        return self._log_alpha.detach().double().exp().float()

    def update(self, log_prob: Tensor) -> bool:
        """A step by the log-densities ``[B]`` of drawn actions, none if it is fixed; False if one is not finite."""
        return not self._learns or self.adam.descend(temperature_loss(self._log_alpha, log_prob, self._target))

    def state(self) -> dict[str, Any]:
        """What ``load`` needs."""
        return self.adam.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""
        self.adam.load(state)
