"""The networks of TD7 (Fujimoto et al. 2023): embeddings of states and of actions in them, critics and a policy.

SALE, "state-action learned embeddings": one network makes ``zs`` of a state, another ``zsa`` of that and an action, and
``zsa`` learns to be the ``zs`` of the next state. Critics are given both beside state and action, the policy ``zs``.
Shapes: states ``[B, D]``, actions ``[B, K]`` in (-1, 1), embeddings ``[B, E]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from velodrome.rl.dense import Mlp


class Embedding(nn.Module):
    """``zs`` of a state and ``zsa`` of it and an action."""

    def __init__(self, num_obs: int, num_actions: int, width: int, size: int, generator: Generator | None) -> None:
        super().__init__()
        self.state = _mlp([num_obs, width, width, size], "elu", generator)
        self.both = _mlp([size + num_actions, width, width, size], "elu", generator)

    def of_state(self, x: Tensor) -> Tensor:
        """``zs``, ``[B, E]``."""
        return unit(self.state(x))

    def of_both(self, zs: Tensor, action: Tensor) -> Tensor:
        """``zsa``, ``[B, E]``."""
        zsa: Tensor = self.both(torch.cat([zs, action], -1))
        return zsa


class Critic(nn.Module):
    """``Q(s, a)``, which sees the embeddings, too."""

    def __init__(self, num_obs: int, num_actions: int, width: int, size: int, generator: Generator | None) -> None:
        super().__init__()
        self.first = _mlp([num_obs + num_actions, width], "elu", generator)
        self.rest = _mlp([width + 2 * size, width, width, 1], "elu", generator)

    def forward(self, x: Tensor, action: Tensor, zs: Tensor, zsa: Tensor, *, frozen: bool = False) -> Tensor:
        """``[B]``; if ``frozen``, gradients flow to the inputs alone."""
        both = unit(self.first(torch.cat([x, action], -1), frozen=frozen))
        q: Tensor = self.rest(torch.cat([both, zsa, zs], -1), frozen=frozen)
        return q[:, 0]


class Actor(nn.Module):
    """The action for a state."""

    def __init__(self, num_obs: int, num_actions: int, width: int, size: int, generator: Generator | None) -> None:
        super().__init__()
        self.first = _mlp([num_obs, width], "relu", generator)
        self.rest = _mlp([width + size, width, width, num_actions], "relu", generator)

    def forward(self, x: Tensor, zs: Tensor) -> Tensor:
        """``[B, K]`` in (-1, 1)."""
        return torch.tanh(self.rest(torch.cat([unit(self.first(x)), zs], -1)))


def unit(x: Tensor) -> Tensor:
    """Each row over the mean of its absolute values: embeddings neither vanish nor explode."""
    return x / x.abs().mean(-1, keepdim=True).clamp(min=1e-8)


def _mlp(sizes: Sequence[int], activation: str, generator: Generator | None) -> Mlp:
    return Mlp(sizes, activation=activation, init="uniform", generator=generator)
