"""CrossQ: the learner (Bhatt et al. 2024, "CrossQ: batch normalization in deep reinforcement learning").

SAC without target networks: both sides of the Bellman error go through the critics in one batch, so that one set of
statistics normalises both. The calling loop is ``off_policy``'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.crossq_config import CrossQConfig
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.renorm_mlp import RenormMlp
from velodrome.rl.replay import Transitions
from velodrome.rl.sac_losses import actor_loss, critic_loss, soft_target
from velodrome.rl.sight import Sight
from velodrome.rl.soft_learner import SoftLearner, critic_values
from velodrome.rl.squashed_policy import SquashedPolicy, check_actions, check_vectors


def learning(envs: EnvBatch, config: CrossQConfig, *, steps: int, seed: int, device: str = "cpu") -> OffPolicy:
    """A run of CrossQ."""
    return OffPolicy(envs, config, CrossQ(envs, config, seed=seed, device=device), steps=steps, seed=seed)


class CrossQ(SoftLearner):
    """Learns from transitions.

    Networks are in ``eval()`` mode, with their running statistics, except where they learn.

    Args:
        envs: What it acts in: its layouts are looked at.
        config: The settings.
        seed: Its random streams are derived from it.
        device: The trial's: ``cpu`` or ``cuda``.
    """

    def __init__(self, envs: EnvBatch, config: CrossQConfig, *, seed: int, device: str = "cpu") -> None:
        def critic(sizes: Sequence[int], generator: Generator) -> nn.Module:
            return RenormMlp(sizes, warmup=config.renorm_warmup, generator=generator).eval()

        super().__init__(envs, config, make_policy, critic, critic_width=config.critic_width,
                         betas=(config.beta1, 0.999), seed=seed, device=device)

    def _step(self, batch: Transitions, weights: Tensor | None, improves: bool) -> tuple[Tensor, None]:
        alpha = self.temperature.value
        with torch.no_grad():
            next_action, next_log_prob = self.policy.sample(batch.next_obs, self.generator)
        # Now and next in one batch: one set of statistics for both sides of the error.
        self.critics.train()
        both = torch.cat([batch.obs, batch.next_obs]), torch.cat([batch.action, next_action])
        q, q_next = critic_values(self.critics, *both).chunk(2, 1)
        self.critics.eval()
        loss = critic_loss(q, soft_target(batch.reward, batch.discount, q_next.detach(), next_log_prob, alpha))
        if not self.critic_step.descend(loss):
            self._explain(batch, values=q)
        if improves:
            self._improve(batch, alpha)
        return torch.cat([torch.stack([loss.detach(), q.detach().mean()]), self._policy_figures]), None

    def _improve(self, batch: Transitions, alpha: Tensor) -> None:
        """A step of the policy, and of the temperature."""
        self.policy.train()
        action, log_prob = self.policy.sample(batch.obs, self.generator)
        self.policy.eval()
        q = critic_values(self.critics, batch.obs, action, frozen=True)
        loss = actor_loss(q, log_prob, alpha)
        if not self.policy_step.descend(loss):
            self._explain(batch, values=q)
        if not self.temperature.update(log_prob):
            self._explain(batch, log_densities=log_prob)
        self._policy_figures.copy_(torch.stack([loss.detach(), -log_prob.detach().mean(), alpha]))


def make_policy(
    config: CrossQConfig, obs: ObsLayout, action: ActionLayout, generator: Generator | None = None
) -> SquashedPolicy:
    """A policy that has learnt nothing, in ``eval()`` mode; the generator draws its weights.

    Raises:
        UsageError: If observations are images, or actions not continuous and bounded.
    """
    sizes = [check_vectors(obs.shape, "crossq"), *[config.width] * config.depth, 2 * check_actions(action, "crossq")]
    body = RenormMlp(sizes, warmup=config.renorm_warmup, generator=generator)
    sight = Sight(obs.shape, is_image=False, normalize=False)
    return SquashedPolicy(body, sight, action, config.noise_memory).eval()
