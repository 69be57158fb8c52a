"""The last layers of policies: from features to a distribution over actions, and to a value.

``policy_head(actions, ...)`` chooses. A head is called with features ``[..., F]`` and, where the actions are discrete,
may be called with a mask of legal actions. Actions are flat and count from 0: a Discrete space's ``start`` and a
Box's shape are for whoever steps the environment to put back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor, nn

from velodrome.errors import UsageError
from velodrome.rl.distributions import Categorical, MultiBinary, MultiDiscrete
from velodrome.rl.gaussians import DiagonalGaussian, SquashedGaussian
from velodrome.rl.networks import linear

LOG_STD_RANGE = (-20.0, 2.0)
"""What a squashed Gaussian's log standard deviation is clamped to (Haarnoja et al. 2018, their code)."""

_POLICY_GAIN = 0.01


class Actions(Protocol):
    """What a head must know of an action; ``velodrome.envs``' ``ActionLayout`` is one."""

    @property
    def kind(self) -> str:
        """``discrete``, ``multi_discrete``, ``multi_binary`` or ``box``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one action."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of choices of each discrete part."""

    @property
    def low(self) -> np.ndarray[Any, np.dtype[Any]]:
        """A box's lower bounds."""

    @property
    def high(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Its upper bounds."""


class CategoricalHead(nn.Module):
    """For ``Discrete(n)``."""

    def __init__(self, num_features: int, num_actions: int, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.logits = linear(num_features, num_actions, gain=_POLICY_GAIN, generator=generator)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Categorical:
        """Of features ``[..., F]`` and a mask ``[..., n]``, True where legal."""
        return Categorical(self.logits(features), mask)


class MultiDiscreteHead(nn.Module):
    """For ``MultiDiscrete(nvec)``."""

    def __init__(self, num_features: int, nvec: Sequence[int], *, generator: Generator | None = None) -> None:
        super().__init__()
        self.nvec = tuple(nvec)
        self.logits = linear(num_features, sum(nvec), gain=_POLICY_GAIN, generator=generator)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> MultiDiscrete:
        """Of features ``[..., F]`` and a mask ``[..., sum(nvec)]``, True where legal."""
        return MultiDiscrete(self.logits(features), self.nvec, mask)


class MultiBinaryHead(nn.Module):
    """For ``MultiBinary(n)``. Masks are not handled: use ``MultiDiscrete([2] * n)``."""

    def __init__(self, num_features: int, num_actions: int, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.logits = linear(num_features, num_actions, gain=_POLICY_GAIN, generator=generator)

    def forward(self, features: Tensor) -> MultiBinary:
        """Of features ``[..., F]``."""
        return MultiBinary(self.logits(features))


class GaussianHead(nn.Module):
    """For ``Box``: the mean depends on the state, the deviation is a parameter (Schulman et al. 2017).

    Args:
        num_features: F.
        num_dims: D.
        log_std: Where the log standard deviation of every dimension starts.
        generator: Draws the weights.
    """

    def __init__(
        self, num_features: int, num_dims: int, *, log_std: float = 0.0, generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.mean = linear(num_features, num_dims, gain=_POLICY_GAIN, generator=generator)
        self.log_std = nn.Parameter(torch.full((num_dims,), log_std))

    def forward(self, features: Tensor) -> DiagonalGaussian:
        """Of features ``[..., F]``."""
        return DiagonalGaussian(self.mean(features), self.log_std)


class SquashedGaussianHead(nn.Module):
    """For a bounded ``Box``, scaled to (-1, 1): mean and deviation both depend on the state (Haarnoja et al. 2018)."""

    def __init__(self, num_features: int, num_dims: int, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.mean_and_log_std = linear(num_features, 2 * num_dims, gain=_POLICY_GAIN, generator=generator)

    def forward(self, features: Tensor) -> SquashedGaussian:
        """Of features ``[..., F]``."""
        mean, log_std = self.mean_and_log_std(features).chunk(2, -1)
        return SquashedGaussian(mean, log_std.clamp(*LOG_STD_RANGE))


class ValueHead(nn.Module):
    """A number per row of features."""

    def __init__(self, num_features: int, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.value = linear(num_features, 1, gain=1.0, generator=generator)

    def forward(self, features: Tensor) -> Tensor:
        """``[...]`` of features ``[..., F]``."""
        value: Tensor = self.value(features)
        return value.squeeze(-1)


def policy_head(
    actions: Actions, num_features: int, *, squashed: bool = False, generator: Generator | None = None,
) -> nn.Module:
    """The head for an environment's actions.

    Args:
        actions: What an action is.
        num_features: F.
        squashed: Whether real actions get a squashed Gaussian (SAC) or a plain one (PPO).
        generator: Draws the weights.

    Raises:
        UsageError: If no head serves the actions.
    """
    num_dims = math.prod(actions.shape)
    if actions.kind == "discrete":
        return CategoricalHead(num_features, actions.sizes[0], generator=generator)
    if actions.kind == "multi_discrete":
        return MultiDiscreteHead(num_features, actions.sizes, generator=generator)
    if actions.kind == "multi_binary":
        return MultiBinaryHead(num_features, num_dims, generator=generator)
    if actions.kind != "box":
        raise UsageError("No policy serves such actions", given=actions.kind,
                         allowed="discrete, multi_discrete, multi_binary, box")
    if not squashed:
        return GaussianHead(num_features, num_dims, generator=generator)
    if not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
        raise UsageError("A squashed policy needs bounds to its actions", given=f"{actions.low} to {actions.high}",
                         allowed="finite bounds", hint="use PPO, or wrap the environment with bounds")
    return SquashedGaussianHead(num_features, num_dims, generator=generator)
