"""Soft actor-critic: the learner (Haarnoja et al. 2018, "Soft actor-critic algorithms and applications").

The calling loop is ``off_policy``'s: ``action = learner.explore(learner.outputs(x), None, generator)`` per step,
``learner.update(batch)`` per update.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.dense import Mlp
from velodrome.rl.flat import FlatAdam
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.products import compute_in
from velodrome.rl.replay import Transitions
from velodrome.rl.sac_config import SACConfig
from velodrome.rl.sac_losses import actor_loss, critic_loss, soft_target
from velodrome.rl.sight import Sight
from velodrome.rl.soft_learner import SoftLearner, critic_values
from velodrome.rl.squashed_policy import SquashedPolicy, check_actions, check_vectors


def learning(envs: EnvBatch, config: SACConfig, *, steps: int, seed: int, device: str = "cpu") -> OffPolicy:
    """A run of SAC."""
    return OffPolicy(envs, config, SAC(envs, config, seed=seed, device=device), steps=steps, seed=seed)


class SAC(SoftLearner):
    """Learns from transitions.

    Args:
        envs: What it acts in: its layouts are looked at.
        config: The settings.
        seed: Its random streams are derived from it.
        device: The trial's: ``cpu`` or ``cuda``.
    """

    def __init__(self, envs: EnvBatch, config: SACConfig, *, seed: int, device: str = "cpu") -> None:
        def critic(sizes: Sequence[int], generator: Generator) -> nn.Module:
            return Mlp(sizes, activation=config.activation, generator=generator)

        super().__init__(envs, config, make_policy, critic, critic_width=config.width, betas=(0.9, 0.999), seed=seed,
                         device=device)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.target_weights = FlatAdam(self.targets, 0.0).weights

    def _step(self, batch: Transitions, weights: Tensor | None, improves: bool) -> tuple[Tensor, None]:
        config, policy, alpha = self.config, self.policy, self.temperature.value
        # What the critics should say.
        with torch.no_grad():
            next_action, next_log_prob = policy.sample(batch.next_obs, self.generator)
            q_next = critic_values(self.targets, batch.next_obs, next_action)
            target = soft_target(batch.reward, batch.discount, q_next, next_log_prob, alpha)
        # A step of the critics.
        q = critic_values(self.critics, batch.obs, batch.action)
        loss = critic_loss(q, target)
        if not self.critic_step.descend(loss):
            self._explain(batch, target=target, loss=loss)
        self.target_weights.data.lerp_(self.critic_step.weights.data, config.tau)
        if improves:
            self._improve(batch, alpha)
        return torch.cat([torch.stack([loss.detach(), q.detach().mean()]), self._policy_figures]), None

    def _improve(self, batch: Transitions, alpha: Tensor) -> None:
        """A step of the policy, and of the temperature."""
        action, log_prob = self.policy.sample(batch.obs, self.generator)
        loss = actor_loss(critic_values(self.critics, batch.obs, action, frozen=True), log_prob, alpha)
        if not self.policy_step.descend(loss):
            self._explain(batch, loss=loss)
        if not self.temperature.update(log_prob):
            self._explain(batch, log_densities=log_prob)
        self._policy_figures.copy_(torch.stack([loss.detach(), -log_prob.detach().mean(), alpha]))

    def state(self) -> dict[str, Any]:
        """What ``load`` needs."""
        return {**super().state(), "targets": self.target_weights.detach().clone(), "sight": self.policy.sight.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, bit for bit on a CPU."""
        super().load(state)
        compute_in(self.precision, self.targets, self.device)
        self.target_weights.data.copy_(state["targets"])
        self.policy.sight.load(state["sight"])


def make_policy(
    config: SACConfig, obs: ObsLayout, action: ActionLayout, generator: Generator | None = None
) -> SquashedPolicy:
    """A policy that has learnt nothing; the generator draws its weights.

    Raises:
        UsageError: If observations are images, or actions not continuous and bounded.
    """
    sizes = [check_vectors(obs.shape, "sac"), *[config.width] * config.depth, 2 * check_actions(action, "sac")]
    body = Mlp(sizes, gain=0.01, activation=config.activation, generator=generator)
    sight = Sight(obs.shape, is_image=False, normalize=config.normalize_obs)
    return SquashedPolicy(body, sight, action, config.noise_memory)
