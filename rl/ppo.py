"""Proximal policy optimisation: the learner (Schulman et al. 2017; Huang et al. 2022, "The 37 implementation details").

The calling loop::

    learner = PPO(policy, config, num_updates=..., seed=...)
    while ...:
        actor.fill(rollout)
        metrics = learner.update(rollout)

All that changes is in ``state()``: weights, normaliser, optimiser, the generator of the minibatches, how many updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from velodrome.rl.categorical_loss import LossWeights, categorical_loss, serves
from velodrome.rl.devices import resume_draws
from velodrome.rl.finite import check_finite
from velodrome.rl.flat import FlatAdam
from velodrome.rl.losses import clipped_surrogate, explained_variance, normalize_advantage, value_loss
from velodrome.rl.policy import Policy
from velodrome.rl.ppo_config import PPOConfig
from velodrome.rl.recorded import Steps
from velodrome.rl.rollout import Batch, Rollout
from velodrome.seeding import derive

_NAMES = ("loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")


class PPO:
    """Learns from rollouts.

    Args:
        policy: What learns; its parameters become views of one buffer.
        config: The settings.
        num_updates: Of the whole run: the learning rate is annealed over them.
        seed: Its random stream is derived from it.
    """

    def __init__(self, policy: Policy, config: PPOConfig, *, num_updates: int, seed: int) -> None:
        self.policy, self.config = policy, config
        self.num_updates, self.seed = num_updates, seed
        self.updates_done = 0
        self.adam = FlatAdam(policy, config.lr, config.max_grad_norm, eps=config.adam_eps)
        self.weights = self.adam.weights
        self.device = self.weights.device
        self.generator = torch.Generator().manual_seed(derive(seed, "minibatches"))
        self._steps = Steps(self._step, self.device, adams=[self.adam], generators=[], save=self.state, load=self.load)
        if policy.core is not None:
            self._steps.recordings = None  # what is learnt from differs in length
        self._weights = LossWeights(config.clip, config.clip_value, config.value_coef, config.entropy_coef)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One PPO update; metrics are means over its gradient steps.

        Raises:
            Diverged: If a loss, a gradient or a weight is no finite number any more; it names the first that is not.
        """
        config = self.config
        self.adam.lr = config.lr * (1.0 - self.updates_done / self.num_updates if config.anneal_lr else 1.0)
        # Values, advantages and the log-probabilities of the policy that acted.
        batch = rollout.batch(self.policy, gamma=config.gamma, gae_lambda=config.gae_lambda, device=self.device)
        steps: list[list[float]] = []
        for _ in range(config.epochs):
            # A pass: each row once, in a new order; with memory each environment's sequence.
            order = torch.randperm(batch.num_parts, generator=self.generator).to(self.device)
            parts = order.tensor_split(min(config.minibatches, len(order)))
            steps += [self._steps(batch.parts(part), None)[0] for part in parts]
            # The policy has moved far enough.
            if 0 < config.target_kl < steps[-1][4]:
                break
        self.updates_done += 1
        means = np.mean(steps, 0).tolist()
        explained = float(explained_variance(*batch.learnt(batch.value, batch.target)))
        return {**dict(zip(_NAMES, means, strict=True)), "explained_variance": explained,
                "learning_rate": self.adam.lr * self.adam.lr_scale}

    def soften(self, rollback: int) -> None:
        """Halves the learning rate for each rollback, and shuffles otherwise than before."""
        self.adam.lr_scale = 0.5**rollback
        self.generator.manual_seed(derive(self.seed, "minibatches", "rollback", rollback))

    def _step(self, batch: Batch, weights: None = None) -> tuple[Tensor, None]:
        """One gradient step; returns the figures of ``_NAMES``."""
        head, value = self.policy.outputs(batch.obs, batch.memory)
        loss, parts = self._loss(head, value, batch)
        if not self.adam.descend(loss):
            self._explain(batch)
        return torch.cat([loss.detach().unsqueeze(0), parts]), None

    def _loss(self, head: Tensor, value: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of what the networks gave, and ``[5]``, its figures after ``loss`` in ``_NAMES``."""
        config = self.config
        old_log_prob, old_value, advantage, target = batch.learnt(
            batch.log_prob, batch.value, batch.advantage, batch.target)
        if config.normalize_advantage:
            advantage = normalize_advantage(advantage)
        if self.policy.spec.action.kind == "discrete" and serves(head):
            head, value, action = batch.learnt(head, value, batch.action)
            mask = None if batch.mask is None else batch.learnt(batch.mask)[0]
            return categorical_loss(head, value, mask, action, old_log_prob, old_value, advantage, target,
                                    self._weights)
        pi = self.policy.distribution(head, batch.mask)
        log_prob, entropies, value = batch.learnt(pi.log_prob(batch.action), pi.entropy(), value)
        surrogate = clipped_surrogate(log_prob, old_log_prob, advantage, clip_range=config.clip)
        of_value = value_loss(value, target, old_v=old_value, clip_range=config.clip_value or None)
        entropy = entropies.mean()
        loss = surrogate.loss + config.value_coef * of_value - config.entropy_coef * entropy
        parts = surrogate.loss, of_value, entropy, surrogate.approx_kl, surrogate.clip_fraction
        return loss, torch.stack([part.detach() for part in parts])

    def _explain(self, batch: Batch) -> None:
        """Raises Diverged with the first thing that is not finite: what went in, a weight, or a gradient."""
        parts = {"observations": batch.obs, "advantages": batch.advantage, "value targets": batch.target,
                 "old log-probabilities": batch.log_prob}
        check_finite(parts, {"policy": self.policy}, where=f"in update {self.updates_done + 1} of {self.num_updates}")

    def state(self) -> dict[str, Any]:
        """What ``load`` needs."""
        return {
            **self.adam.state(), "sight": self.policy.sight.state(), "generator": self.generator.get_state(),
            "updates_done": self.updates_done,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, bit for bit on a CPU."""
        self.adam.load(state)
        self.policy.sight.load(state["sight"])
        resume_draws(self.generator, state["generator"])
        self.updates_done = state["updates_done"]
