"""The policy of DQN: a network of action values, the best of which is taken, or now and then a random one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from velodrome.errors import UsageError
from velodrome.rl.agent import ForgetfulPlayer, Player
from velodrome.rl.policy import ImageTrunk, PolicySpec
from velodrome.rl.q_head import QHead
from velodrome.rl.sight import Sight
from velodrome.rl.td_losses import allowed_values, categorical_values

Array = np.ndarray[Any, np.dtype[Any]]


class EpsilonGreedy:
    """The best of the allowed actions, or with probability ``epsilon`` any of them.

    Args:
        q: Values ``[N, A]``.
        mask: ``[N, A]``, bool, True where an action is allowed; None for all.
        epsilon: See above.

    Raises:
        UsageError: If a row of the mask allows nothing.
    """

    __slots__ = ("_epsilon", "_mask", "_q")

    def __init__(self, q: Tensor, mask: Tensor | None, epsilon: float) -> None:
        check_mask(mask)
        self._q, self._mask, self._epsilon = allowed_values(q, mask), mask, epsilon

    def mode(self) -> Tensor:
        """The best actions, ``[N]``, int64; the first of several."""
        return self._q.argmax(-1)

    def sample(self, generator: Generator | None = None) -> Tensor:
        """``[N]``, int64; a generator on the values' device."""
        best = self.mode()
        if self._epsilon <= 0.0:
            return best
        num_envs, num_actions = self._q.shape
        is_random = torch.rand(num_envs, generator=generator, device=best.device) < self._epsilon
        if not is_random.any():
            return best
        return torch.where(is_random, draw_evenly(num_envs, num_actions, self._mask, generator), best)


class QPolicy(nn.Module):
    """Chooses actions by their values (an ``Agent``).

    Args:
        spec: Layouts and layers; actions are discrete (``check_discrete``).
        network: Gives values, or atoms of their distributions.
        atoms: ``[K]``: the returns whose probabilities a categorical network gives logits of; None otherwise.
        is_quantile: Whether the network gives quantiles.
        epsilon: Of the actions that ``act(x).sample`` draws.
    """

    def __init__(
        self, spec: PolicySpec, network: QHead, *, atoms: Tensor | None, is_quantile: bool, epsilon: float
    ) -> None:
        super().__init__()
        self.spec, self.network, self.epsilon = spec, network, epsilon
        self.sight = Sight(spec.obs_shape, is_image=spec.is_image, normalize=spec.normalize_obs)
        self.atoms: Tensor | None
        self.register_buffer("atoms", atoms, persistent=False)
        self._is_quantile = is_quantile

    def values(self, out: Tensor) -> Tensor:
        """``[B, A]``, the mean returns, of what the network gave."""
        if self.atoms is not None:
            return categorical_values(out, self.atoms)
        return out.mean(-1) if self._is_quantile else out

    def forward(self, x: Tensor) -> Tensor:
        """The values ``[B, A]`` of all actions, for what ``sight.see`` gave."""
        return self.values(self.network(x))

    def act(self, x: Tensor, mask: Tensor | None = None) -> EpsilonGreedy:
        """What to choose actions by."""
        return EpsilonGreedy(self(x), mask, self.epsilon)

    def player(self, num_envs: int) -> Player:
        """Plays in so many environments."""
        return ForgetfulPlayer(self, next(self.parameters()).device)

    def to_env(self, action: Tensor) -> Array:
        """A batch of actions as ``EnvBatch.step`` takes them."""
        array: Array = action.detach().cpu().numpy()
        return array

    def random(self, num_envs: int, generator: Generator, mask: Tensor | None = None) -> Tensor:
        """Allowed actions, each as likely, ``[N]``, on the CPU."""
        check_mask(mask)
        return draw_evenly(num_envs, self.spec.action.sizes[0], mask, generator)


def q_network(
    spec: PolicySpec, *, num_atoms: int, dueling: bool, noisy: bool, generator: Generator | None = None
) -> QHead:
    """The network for a policy, for vectors or images; see ``QHead``."""
    trunk = ImageTrunk(spec.obs_shape, generator) if spec.is_image else None
    sizes = [math.prod(spec.obs_shape)] + [spec.width] * spec.depth if trunk is None else [trunk.num_features]
    return QHead(
        sizes, spec.action.sizes[0], num_atoms=num_atoms, dueling=dueling, noisy=noisy, activation=spec.activation,
        trunk=trunk, generator=generator,
    )


def draw_evenly(num_envs: int, num_actions: int, mask: Tensor | None, generator: Generator | None) -> Tensor:
    """Allowed actions, each as likely, ``[N]``, on the generator's device."""
    device = None if generator is None else generator.device
    if mask is None:
        return torch.randint(num_actions, (num_envs,), generator=generator, device=device)
    order = torch.rand(num_envs, num_actions, generator=generator, device=device)
    return order.masked_fill_(~mask, -1.0).argmax(-1)


def check_mask(mask: Tensor | None) -> None:
    """Raises UsageError if a row allows nothing (on a CPU; elsewhere it would cost a synchronisation)."""
    if mask is not None and mask.device.type == "cpu" and not bool(mask.any(-1).all()):
        row = int((~mask.any(-1)).nonzero()[0])
        raise UsageError("An action mask forbids every action", given=f"row {row} of {len(mask)}",
                         allowed="at least one allowed action per row",
                         hint="end the episode where nothing can be done")


def check_discrete(kind: str, algo: str) -> None:
    """Raises UsageError if actions are not discrete."""
    if kind != "discrete":
        raise UsageError(f"{algo} can't choose such actions", given=kind, allowed="discrete: one of several actions",
                         hint="velo train sac or ppo for continuous actions, ppo for the others")
