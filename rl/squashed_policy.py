"""The policy of SAC and its kin: a network that gives the mean and deviation of a Gaussian, squashed by tanh.

Actions are in (-1, 1) inside, and scaled to the environment's bounds on their way to it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from velodrome.envs.adapter_spaces import ActionLayout
from velodrome.errors import UsageError
from velodrome.rl.agent import Choice, ForgetfulPlayer, Player
from velodrome.rl.gaussians import SquashedGaussian
from velodrome.rl.sight import Sight
from velodrome.rl.squash import sample_squashed, squashed
from velodrome.rl.wander import Wander

Array = np.ndarray[Any, np.dtype[Any]]


class BoundedPolicy(nn.Module, ABC):
    """What acts in (-1, 1): how its actions reach the environment, and which ones are tried before it learns.

    Args:
        sight: What it makes of observations.
        action: What an action is; its bounds must be finite (``check_actions``).
        noise_memory: How much of the exploration noise lasts from one step to the next (``Wander``).
    """

    def __init__(self, sight: Sight, action: ActionLayout, noise_memory: float = 0.0) -> None:
        super().__init__()
        self.noise = Wander(noise_memory)
        self.sight, self.action = sight, action
        low, high = (bound.astype(np.float64).reshape(-1) for bound in (action.low, action.high))
        self._middle, self._half = ((high + low) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)

    @abstractmethod
    def act(self, x: Tensor, mask: Tensor | None = None) -> Choice:
        """What to choose actions by, for normalised observations ``[B, D]``; there are no masks."""

    def player(self, num_envs: int) -> Player:
        """Plays in so many environments."""
        return ForgetfulPlayer(self, next(self.parameters()).device)

    def to_env(self, action: Tensor) -> Array:
        """Actions ``[B, K]`` in (-1, 1) as ``EnvBatch.step`` takes them."""
        scaled: Array = self._middle + self._half * action.detach().cpu().numpy()
        return scaled.reshape(len(scaled), *self.action.shape)

    def random(self, num_envs: int, generator: Generator, mask: Tensor | None = None) -> Tensor:
        """Actions spread evenly over (-1, 1), ``[N, K]``, on the CPU; there are no masks."""
        return torch.erf(self.noise.draw(torch.empty(num_envs, len(self._middle)), generator) * math.sqrt(0.5))


class SquashedPolicy(BoundedPolicy):
    """From observations to a ``SquashedGaussian``.

    Args:
        body: From normalised observations ``[B, D]`` to ``[B, 2 K]``, means and log-deviations of K components.
        sight: See ``BoundedPolicy``, as of the others.
        action: What an action is.
        noise_memory: How much of the exploration noise lasts.
    """

    def __init__(self, body: nn.Module, sight: Sight, action: ActionLayout, noise_memory: float = 0.0) -> None:
        super().__init__(sight, action, noise_memory)
        self.body = body

    def forward(self, x: Tensor) -> SquashedGaussian:
        """The distribution of actions for normalised observations ``[B, D]``."""
        return squashed(self.body(x))

    def sample(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Actions ``[B, K]`` and their log-densities ``[B]``; gradients flow through both."""
        return sample_squashed(self.body(x), generator)

    def act(self, x: Tensor, mask: Tensor | None = None) -> SquashedGaussian:
        """The same; there are no masks for continuous actions."""
        return self.forward(x)

    def explore(self, head: Tensor, generator: Generator) -> Tensor:
        """Actions ``[N, K]`` to take while training, for what the body gave, ``[N, 2 K]``."""
        pi = squashed(head).before_tanh
        return torch.addcmul(pi.mean, pi.log_std.exp(), self.noise.draw(pi.mean, generator)).tanh()


def check_actions(action: ActionLayout, algo: str) -> int:
    """The number of components of an action.

    Raises:
        UsageError: If the actions are not continuous and bounded.
    """
    if action.kind != "box":
        raise UsageError(f"{algo} can't choose such actions", given=action.kind, allowed="box: continuous actions",
                         hint="velo train dqn or ppo for discrete actions, ppo for the others")
    if not (np.isfinite(action.low).all() and np.isfinite(action.high).all()):
        raise UsageError(f"{algo} needs bounds to the actions", given=f"{action.low} to {action.high}",
                         allowed="finite bounds", hint="velo train ppo, or wrap the environment with bounds")
    return math.prod(action.shape)


def check_vectors(shape: tuple[int, ...], algo: str) -> int:
    """The size of an observation.

    Raises:
        UsageError: If observations are images.
    """
    if len(shape) == 3:
        raise UsageError(f"{algo} sees vectors", given=f"observations of shape {shape}", allowed="up to 2 dimensions",
                         hint="velo train ppo or dqn for images")
    return math.prod(shape)
