"""CrossQ: the learner (Bhatt et al. 2024, "CrossQ: batch normalization in deep reinforcement learning").

SAC without target networks: both sides of the Bellman error go through the critics in one batch, so that one set of
statistics normalises both. The calling loop is ``off_policy``'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.crossq_config import CrossQConfig
from velodrome.rl.devices import learning_device
from velodrome.rl.finite import check_finite
from velodrome.rl.flat import FlatAdam
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.renorm_mlp import RenormMlp
from velodrome.rl.replay import Transitions
from velodrome.rl.sac_losses import actor_loss, critic_loss, soft_target
from velodrome.rl.sight import Sight
from velodrome.rl.squashed_policy import SquashedPolicy, check_actions, check_vectors
from velodrome.rl.temperature import Temperature
from velodrome.seeding import derive


def learning(envs: EnvBatch, config: CrossQConfig, *, steps: int, seed: int, device: str = "cpu") -> OffPolicy:
    """A run of CrossQ."""
    return OffPolicy(envs, config, CrossQ(envs, config, seed=seed, device=device), steps=steps, seed=seed)


class CrossQ:
    """Learns from transitions.

    Networks are in ``eval()`` mode, with their running statistics, except where they learn.

    Args:
        envs: What it acts in: its layouts are looked at.
        config: The settings.
        seed: Its random streams are derived from it.
        device: The trial's: ``cpu`` or ``cuda``.
    """

    figures: tuple[str, ...] = ("critic_loss", "q", "policy_loss", "entropy", "alpha")
    progress = 0.0

    def __init__(self, envs: EnvBatch, config: CrossQConfig, *, seed: int, device: str = "cpu") -> None:
        self.config, self.seed = config, seed
        num_obs = check_vectors(envs.obs_layout.shape, "crossq")
        num_actions = check_actions(envs.action_layout, "crossq")
        self.device = learning_device(config.device, device, config.threads, is_image=False)
        how: dict[str, Any] = {
            "warmup": config.renorm_warmup, "generator": Generator().manual_seed(derive(seed, "weights")),
        }
        sight = Sight(envs.obs_layout.shape, is_image=False, normalize=False)
        body = RenormMlp([num_obs, *[config.width] * config.depth, 2 * num_actions], **how)
        self.policy = SquashedPolicy(body, sight, envs.action_layout, config.noise_memory).to(self.device).eval()
        sizes = [num_obs + num_actions, *[config.critic_width] * config.depth, 1]
        self.critics = nn.ModuleList(RenormMlp(sizes, **how) for _ in range(config.num_critics)).to(self.device).eval()
        betas = config.beta1, 0.999
        self.policy_step = FlatAdam(self.policy, config.lr, config.max_grad_norm, betas=betas)
        self.critic_step = FlatAdam(self.critics, config.critic_lr, config.max_grad_norm, betas=betas)
        self.temperature = Temperature(
            fixed=config.alpha, start=config.alpha_init, target_entropy=-config.entropy_scale * num_actions,
            lr=config.lr, device=self.device, betas=betas,
        )
        self.generator = Generator(self.device).manual_seed(derive(seed, "policy noise"))
        self.updates_done = 0
        self._last_figures = [0.0, 0.0, self.temperature.value]

    def explore(self, x: Tensor, mask: Tensor | None, generator: Generator) -> Tensor:
        """Actions to take while training, ``[N, K]``."""
        return self.policy.explore(x, generator)

    def update(self, batch: Transitions, weights: Tensor | None = None) -> tuple[list[float], Tensor | None]:
        """One step of the critics and, every ``policy_every`` of these, of policy and temperature.

        Returns:
            The figures, as ``figures`` names them, and no errors: transitions are drawn evenly.

        Raises:
            Diverged: If a loss or gradient is no finite number any more.
        """
        self._set_learning_rates()
        alpha = self.temperature.value
        with torch.no_grad():
            next_action, next_log_prob = self.policy.sample(batch.next_obs, self.generator)
        # Now and next in one batch: one set of statistics for both sides of the error.
        self.critics.train()
        both = torch.cat([torch.cat([batch.obs, batch.action], 1), torch.cat([batch.next_obs, next_action], 1)])
        q, q_next = _values(self.critics, both).chunk(2, 1)
        self.critics.eval()
        loss = critic_loss(q, soft_target(batch.reward, batch.discount, q_next.detach(), next_log_prob, alpha))
        if not math.isfinite(self.critic_step.descend(loss)):
            self._explain(batch, values=q)
        self.updates_done += 1
        if self.updates_done % self.config.policy_every == 0:
            self._improve(batch, alpha)
        return [float(loss.detach()), float(q.detach().mean()), *self._last_figures], None

    def _improve(self, batch: Transitions, alpha: float) -> None:
        """A step of the policy, and of the temperature."""
        self.policy.train()
        action, log_prob = self.policy.sample(batch.obs, self.generator)
        self.policy.eval()
        q = _values(self.critics, torch.cat([batch.obs, action], 1), frozen=True)
        loss = actor_loss(q, log_prob, alpha)
        if not math.isfinite(self.policy_step.descend(loss)):
            self._explain(batch, values=q)
        self.temperature.update(log_prob)
        self._last_figures = [float(loss.detach()), -float(log_prob.detach().mean()), alpha]

    def _set_learning_rates(self) -> None:
        """As the settings say for this moment of the run."""
        left = 1.0 - self.progress if self.config.anneal_lr else 1.0
        self.critic_step.lr = left * self.config.critic_lr
        self.policy_step.lr = self.temperature.adam.lr = left * self.config.lr

    def _explain(self, batch: Transitions, **results: Tensor) -> None:
        """Raises Diverged with the first thing that is not finite."""
        modules = {"policy": self.policy, "critics": self.critics}
        check_finite(batch.named(), modules, results, where=f"in update {self.updates_done + 1}")

    def soften(self, rollback: int) -> None:
        """Halves the learning rates for each rollback, and draws otherwise than before."""
        for step in (self.policy_step, self.critic_step, self.temperature.adam):
            step.lr_scale = 0.5**rollback
        self.generator.manual_seed(derive(self.seed, "policy noise", "rollback", rollback))

    def state(self) -> dict[str, Any]:
        """What ``load`` needs."""
        return {
            "policy": self.policy_step.state(), "critics": self.critic_step.state(),
            "temperature": self.temperature.state(), "generator": self.generator.get_state(),
            "noise": self.policy.noise.state(), "updates_done": self.updates_done, "figures": self._last_figures,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, bit for bit on a CPU."""
        self.policy_step.load(state["policy"])
        self.critic_step.load(state["critics"])
        self.temperature.load(state["temperature"])
        self.generator.set_state(state["generator"])
        self.policy.noise.load(state["noise"])
        self.updates_done, self._last_figures = state["updates_done"], list(state["figures"])


def _values(critics: nn.ModuleList, both: Tensor, *, frozen: bool = False) -> Tensor:
    """``[M, B]``: what each critic says of observations and actions ``[B, D + K]``."""
    return torch.cat([critic(both, frozen=frozen) for critic in critics], 1).t()
