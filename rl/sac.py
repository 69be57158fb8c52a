"""Soft actor-critic: the learner (Haarnoja et al. 2018, "Soft actor-critic algorithms and applications").

The calling loop is ``off_policy``'s: ``action = learner.explore(x)`` per step, ``learner.update(batch)`` per update.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.dense import Mlp
from velodrome.rl.devices import learning_device
from velodrome.rl.finite import check_finite
from velodrome.rl.flat import FlatAdam
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.replay import Transitions
from velodrome.rl.sac_config import SACConfig
from velodrome.rl.sac_losses import actor_loss, critic_loss, soft_target
from velodrome.rl.sight import Sight
from velodrome.rl.squashed_policy import SquashedPolicy, check_actions, check_vectors
from velodrome.rl.temperature import Temperature
from velodrome.seeding import derive


def learning(envs: EnvBatch, config: SACConfig, *, steps: int, seed: int, device: str = "cpu") -> OffPolicy:
    """A run of SAC."""
    return OffPolicy(envs, config, SAC(envs, config, seed=seed, device=device), steps=steps, seed=seed)


class SAC:
    """Learns from transitions.

    Args:
        envs: What it acts in: its layouts are looked at.
        config: The settings.
        seed: Its random streams are derived from it.
        device: The trial's: ``cpu`` or ``cuda``.
    """

    figures: tuple[str, ...] = ("critic_loss", "q", "policy_loss", "entropy", "alpha")
    progress = 0.0

    def __init__(self, envs: EnvBatch, config: SACConfig, *, seed: int, device: str = "cpu") -> None:
        self.config, self.seed = config, seed
        num_obs = check_vectors(envs.obs_layout.shape, "sac")
        num_actions = check_actions(envs.action_layout, "sac")
        self.device = learning_device(config.device, device, config.threads, is_image=False)
        weights = Generator().manual_seed(derive(seed, "weights"))
        how: dict[str, Any] = {"activation": config.activation, "generator": weights}
        hidden = [config.width] * config.depth
        sight = Sight(envs.obs_layout.shape, is_image=False, normalize=config.normalize_obs)
        body = Mlp([num_obs, *hidden, 2 * num_actions], gain=0.01, **how)
        self.policy = SquashedPolicy(body, sight, envs.action_layout, config.noise_memory).to(self.device)
        self.critics = nn.ModuleList(
            Mlp([num_obs + num_actions, *hidden, 1], **how) for _ in range(config.num_critics)
        ).to(self.device)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        # Every set of weights is one row of numbers: one step of the optimiser, one average, one copy.
        self.policy_step = FlatAdam(self.policy, config.lr, config.max_grad_norm)
        self.critic_step = FlatAdam(self.critics, config.critic_lr, config.max_grad_norm)
        self.target_weights = FlatAdam(self.targets, 0.0).weights
        self.temperature = Temperature(
            fixed=config.alpha, start=config.alpha_init, target_entropy=-config.entropy_scale * num_actions,
            lr=config.lr, device=self.device,
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
        config, policy = self.config, self.policy
        self._set_learning_rates()
        x, x_next = policy.sight.normalize(batch.obs), policy.sight.normalize(batch.next_obs)
        alpha = self.temperature.value
        # What the critics should say.
        with torch.no_grad():
            next_action, next_log_prob = policy.sample(x_next, self.generator)
            q_next = _values(self.targets, x_next, next_action)
            target = soft_target(batch.reward, batch.discount, q_next, next_log_prob, alpha)
        # A step of the critics.
        q = _values(self.critics, x, batch.action)
        loss = critic_loss(q, target)
        if not math.isfinite(self.critic_step.descend(loss)):
            self._explain(batch, target=target, loss=loss)
        self.target_weights.data.lerp_(self.critic_step.weights.data, config.tau)
        self.updates_done += 1
        if self.updates_done % config.policy_every == 0:
            self._improve(x, alpha, batch)
        return [float(loss.detach()), float(q.detach().mean()), *self._last_figures], None

    def _improve(self, x: Tensor, alpha: float, batch: Transitions) -> None:
        """A step of the policy, and of the temperature."""
        action, log_prob = self.policy.sample(x, self.generator)
        loss = actor_loss(_values(self.critics, x, action, frozen=True), log_prob, alpha)
        if not math.isfinite(self.policy_step.descend(loss)):
            self._explain(batch, loss=loss)
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
            "temperature": self.temperature.state(), "targets": self.target_weights.detach().clone(),
            "sight": self.policy.sight.state(), "generator": self.generator.get_state(),
            "noise": self.policy.noise.state(), "updates_done": self.updates_done, "figures": self._last_figures,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, bit for bit on a CPU."""
        self.policy_step.load(state["policy"])
        self.critic_step.load(state["critics"])
        self.temperature.load(state["temperature"])
        self.target_weights.data.copy_(state["targets"])
        self.policy.sight.load(state["sight"])
        self.generator.set_state(state["generator"])
        self.policy.noise.load(state["noise"])
        self.updates_done, self._last_figures = state["updates_done"], list(state["figures"])


def _values(critics: nn.ModuleList, x: Tensor, action: Tensor, *, frozen: bool = False) -> Tensor:
    """``[M, B]``: what each critic says of observations ``[B, D]`` and actions ``[B, K]``."""
    both = torch.cat([x, action], -1)
    return torch.cat([critic(both, frozen=frozen) for critic in critics], -1).t()
