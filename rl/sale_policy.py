"""The policy of TD7: an action for each state, by its embedding, with noise in training."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from velodrome.envs.adapter_spaces import ActionLayout
from velodrome.rl.sale import Actor, Embedding
from velodrome.rl.sight import Sight
from velodrome.rl.squashed_policy import BoundedPolicy


class SalePolicy(BoundedPolicy):
    """From observations to one action each, by the embedding of the state.

    Args:
        embedding: Does not learn; the learner renews it.
        actor: Learns.
        sight: See ``BoundedPolicy``, as of the others.
        action: What an action is.
        std: Of the noise that is added to actions in training.
        noise_memory: How much of it lasts.
    """

    def __init__(
        self, embedding: Embedding, actor: Actor, sight: Sight, action: ActionLayout, std: float, noise_memory: float
    ) -> None:
        super().__init__(sight, action, noise_memory)
        self.embedding, self.actor, self.std = embedding.requires_grad_(False), actor, std

    def act(self, x: Tensor, mask: Tensor | None = None) -> NoisyActions:
        """Actions for normalised observations ``[B, D]``; there are no masks for continuous ones."""
        return NoisyActions(self.actor(x, self.embedding.of_state(x)), self.std)

    def explore(self, action: Tensor, generator: Generator) -> Tensor:
        """Actions ``[N, K]`` to take while training: these with noise."""
        return torch.add(action, self.noise.draw(action, generator), alpha=self.std).clamp_(-1.0, 1.0)


class NoisyActions:
    """Actions ``[B, K]`` in (-1, 1), and the noise that is added where they are drawn. An ``agent.Choice``."""

    def __init__(self, action: Tensor, std: float) -> None:
        self._action, self._std = action, std

    def mode(self) -> Tensor:
        """The actions."""
        return self._action

    def sample(self, generator: Generator | None = None) -> Tensor:
        """The actions with noise, within (-1, 1)."""
        action = self._action
        noise = torch.randn(action.shape, generator=generator, device=action.device)
        return torch.add(action, noise, alpha=self._std).clamp_(-1.0, 1.0)
