"""TD7: the learner (Fujimoto et al. 2023, "For SALE: state-action representation learning for deep RL").

TD3 (Fujimoto et al. 2018) whose critics and policy are given learnt embeddings (``sale``), with transitions drawn by
priority (LAP, Fujimoto et al. 2020) and targets that are copies of a while ago. Of the paper's parts the checkpoints of
policies are not here: they begin after 750,000 steps. The calling loop is ``off_policy``'s.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.dense import Mlp
from velodrome.rl.devices import learning_device, resume_draws
from velodrome.rl.finite import check_finite
from velodrome.rl.flat import FlatAdam, flatten
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.prioritized import Priorities
from velodrome.rl.products import choose_product_precision, compute_in
from velodrome.rl.recorded import Steps
from velodrome.rl.replay import Transitions
from velodrome.rl.sale import Actor, Critic, Embedding
from velodrome.rl.sale_policy import SalePolicy
from velodrome.rl.sight import Sight
from velodrome.rl.squashed_policy import check_actions, check_vectors
from velodrome.rl.td7_config import TD7Config
from velodrome.seeding import derive


def learning(envs: EnvBatch, config: TD7Config, *, steps: int, seed: int, device: str = "cpu") -> OffPolicy:
    """A run of TD7."""
    learner = TD7(envs, config, seed=seed, device=device)
    priorities = (lambda size: Priorities(size, alpha=config.alpha, eps=0.0)) if config.alpha else None
    return OffPolicy(envs, config, learner, steps=steps, seed=seed, priorities=priorities)


class TD7:
    """Learns from transitions.

    Three embeddings take turns: one learns; every ``target_every`` updates the policy and the critics get a copy of it
    to learn with, and their targets the one they had.

    Args:
        envs: What it acts in: its layouts are looked at.
        config: The settings.
        seed: Its random streams are derived from it.
        device: The trial's: ``cpu`` or ``cuda``.
    """

    figures: tuple[str, ...] = ("critic_loss", "q", "policy_loss", "embedding_loss")
    beta = 0.0
    progress = 0.0

    def __init__(self, envs: EnvBatch, config: TD7Config, *, seed: int, device: str = "cpu") -> None:
        self.config, self.seed = config, seed
        self.device = where = learning_device(config.device, device, config.threads, is_image=False, pays=True)
        weights = Generator().manual_seed(derive(seed, "weights"))
        self.policy = policy = make_policy(config, envs.obs_layout, envs.action_layout, weights)
        sizes = math.prod(envs.obs_layout.shape), math.prod(envs.action_layout.shape), config.width, config.embedding
        self.critics = nn.ModuleList(Critic(*sizes, weights) for _ in range(config.num_critics))
        self.embedding = copy.deepcopy(policy.embedding).requires_grad_(True)
        self.targets = copy.deepcopy(nn.ModuleDict({
            "embedding": policy.embedding, "actor": policy.actor, "critics": self.critics})).requires_grad_(False)
        self._parts = nn.ModuleDict({"policy": policy, "critics": self.critics, "embedding": self.embedding,
                                     "targets": self.targets}).to(where)
        self._compute_in(choose_product_precision(
            config.precision, config.batch_size, min(config.width, config.embedding), where))
        self.policy_step = FlatAdam(policy.actor, config.lr, config.max_grad_norm)
        self.critic_step = FlatAdam(self.critics, config.critic_lr, config.max_grad_norm)
        self.embedding_step = FlatAdam(self.embedding, config.critic_lr, config.max_grad_norm)
        self._fixed = flatten(policy.embedding).requires_grad_(False)
        self._target = {name: flatten(part).requires_grad_(False) for name, part in self.targets.items()}
        self._bounds, self._seen = torch.zeros(2, device=where), torch.tensor([math.inf, -math.inf], device=where)
        self.generator = Generator(where).manual_seed(derive(seed, "target noise"))
        self.updates_done = 0
        self._policy_loss = torch.zeros((), device=where)
        self._steps = Steps(self._step, where, adams=[self.embedding_step, self.critic_step, self.policy_step],
                            generators=[self.generator], save=self.state, load=self.load)

    def outputs(self, x: Tensor) -> Tensor:
        """What ``explore`` goes by, ``[N, K]``."""
        return self.policy.act(x).mode()

    def explore(self, outputs: Tensor, mask: Tensor | None, generator: Generator) -> Tensor:
        """Actions to take while training, ``[N, K]``."""
        return self.policy.explore(outputs, generator)

    def update(self, batch: Transitions, weights: Tensor | None = None) -> tuple[list[float], Tensor | None]:
        """One step of embeddings and critics and, every ``policy_every`` of these, of the policy.

        Returns:
            The figures, as ``figures`` names them, and the errors ``[B]`` that priorities are made of, 1 at least.

        Raises:
            Diverged: If a loss or gradient is no finite number any more.
        """
        self._set_learning_rates()
        improves = (self.updates_done + 1) % self.config.policy_every == 0
        results = self._steps(batch.seen_by(self.policy.sight), weights, improves)
        self.updates_done += 1
        if self.updates_done % self.config.target_every == 0:
            self._renew_targets()
        return results

    def _step(self, batch: Transitions, weights: Tensor | None, improves: bool) -> tuple[Tensor, Tensor]:
        """The same on the device, the policy's if it ``improves``; figures ``[4]`` and errors."""
        embedding, x = self.policy.embedding, batch.obs
        embedding_loss = self._embed(batch)
        with torch.no_grad():
            target = self._targets_for(batch)
            zs = embedding.of_state(x)
            zsa = embedding.of_both(zs, batch.action)
        q = torch.stack([critic(x, batch.action, zs, zsa) for critic in self.critics])
        errors = (q - target).abs()
        loss = prioritized_loss(errors)
        if not self.critic_step.descend(loss):
            self._explain(batch, target=target, values=q)
        if improves:
            self._improve(batch, zs)
        figures = torch.stack([loss.detach(), q.detach().mean(), self._policy_loss, embedding_loss])
        return figures, errors.detach().amax(0).clamp_(min=1.0)

    def _embed(self, batch: Transitions) -> Tensor:
        """A step of the embedding, whose ``zsa`` is to be the next ``zs``; the loss."""
        with torch.no_grad():
            zs_next = self.embedding.of_state(batch.next_obs)
        zsa = self.embedding.of_both(self.embedding.of_state(batch.obs), batch.action)
        loss = (zsa - zs_next).square().mean()
        if not self.embedding_step.descend(loss):
            self._explain(batch, embedding=zsa)
        return loss.detach()

    def _targets_for(self, batch: Transitions) -> Tensor:
        """What the critics should say, ``[B]``; what comes after a step is held to the values that were seen so far."""
        config, x_next = self.config, batch.next_obs
        targets: Any = self.targets
        zs = targets["embedding"].of_state(x_next)
        action = targets["actor"](x_next, zs)
        noise = config.target_noise * torch.randn(action.shape, generator=self.generator, device=self.device)
        action = (action + noise.clamp_(-config.target_noise_clip, config.target_noise_clip)).clamp_(-1.0, 1.0)
        zsa = targets["embedding"].of_both(zs, action)
        q_next = torch.stack([critic(x_next, action, zs, zsa) for critic in targets["critics"]]).amin(0)
        target = batch.reward + batch.discount * q_next.clamp_(*self._bounds)
        self._seen.copy_(torch.stack([target.min().minimum(self._seen[0]), target.max().maximum(self._seen[1])]))
        return target

    def _improve(self, batch: Transitions, zs: Tensor) -> None:
        """A step of the policy."""
        x = batch.obs
        action = self.policy.actor(x, zs)
        zsa = self.policy.embedding.of_both(zs, action)
        q = torch.stack([critic(x, action, zs, zsa, frozen=True) for critic in self.critics])
        loss = -q.mean()
        if not self.policy_step.descend(loss):
            self._explain(batch, values=q)
        self._policy_loss.copy_(loss.detach())

    def _renew_targets(self) -> None:
        """Everything that learns from copies gets the next ones."""
        self._target["actor"].copy_(self.policy_step.weights.detach())
        self._target["critics"].copy_(self.critic_step.weights.detach())
        self._target["embedding"].copy_(self._fixed)
        self._fixed.copy_(self.embedding_step.weights.detach())
        self._bounds.copy_(self._seen)

    def _compute_in(self, precision: str) -> None:
        self.precision = precision
        compute_in(precision, [part for part in self._parts.modules() if isinstance(part, Mlp)], self.device)

    def _set_learning_rates(self) -> None:
        left = 1.0 - self.progress if self.config.anneal_lr else 1.0
        self.policy_step.lr = left * self.config.lr
        self.critic_step.lr = self.embedding_step.lr = left * self.config.critic_lr

    def _explain(self, batch: Transitions, **results: Tensor) -> None:
        """Raises Diverged with the first thing that is not finite."""
        modules = {"policy": self.policy, "embedding": self.embedding, "critics": self.critics}
        check_finite(batch.named(), modules, results, where=f"in update {self.updates_done + 1}")

    def soften(self, rollback: int) -> None:
        """Halves the learning rates for each rollback, and draws otherwise than before."""
        for step in (self.policy_step, self.critic_step, self.embedding_step):
            step.lr_scale = 0.5**rollback
        self.generator.manual_seed(derive(self.seed, "target noise", "rollback", rollback))

    def state(self) -> dict[str, Any]:
        """What ``load`` needs."""
        return {
            "policy": self.policy_step.state(), "critics": self.critic_step.state(),
            "embedding": self.embedding_step.state(), "fixed": self._fixed.clone(),
            "targets": {name: part.clone() for name, part in self._target.items()}, "bounds": self._bounds.tolist(),
            "seen": self._seen.tolist(), "generator": self.generator.get_state(), "noise": self.policy.noise.state(),
            "sight": self.policy.sight.state(), "updates_done": self.updates_done,
            "policy_loss": float(self._policy_loss), "precision": self.precision,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, bit for bit on a CPU."""
        self.policy_step.load(state["policy"])
        self.critic_step.load(state["critics"])
        self.embedding_step.load(state["embedding"])
        self._fixed.copy_(state["fixed"])
        for name, part in self._target.items():
            part.copy_(state["targets"][name])
        self._bounds.copy_(torch.tensor(state["bounds"]))
        self._seen.copy_(torch.tensor(state["seen"]))
        resume_draws(self.generator, state["generator"])
        self.policy.noise.load(state["noise"])
        self.policy.sight.load(state["sight"])
        self.updates_done = state["updates_done"]
        self._policy_loss.fill_(state["policy_loss"])
        self._compute_in(state["precision"])


def prioritized_loss(errors: Tensor) -> Tensor:
    """LAP's loss of errors ``[M, B]``, none negative (Fujimoto et al. 2020, "An equivalence between loss functions").

    Half the square below 1, the error itself above: with transitions drawn by ``max(error, 1)^alpha`` its gradient is,
    in expectation, one that drawing evenly could give. The mean over the batch of the sum over critics.
    """
    return torch.where(errors < 1.0, 0.5 * errors.square(), errors).mean(-1).sum()


def make_policy(
    config: TD7Config, obs: ObsLayout, action: ActionLayout, generator: Generator | None = None
) -> SalePolicy:
    """A policy that has learnt nothing; the generator draws its weights.

    Raises:
        UsageError: If observations are images, or actions not continuous and bounded.
    """
    sizes = check_vectors(obs.shape, "td7"), check_actions(action, "td7"), config.width, config.embedding
    sight = Sight(obs.shape, is_image=False, normalize=config.normalize_obs)
    embedding, actor = Embedding(*sizes, generator), Actor(*sizes, generator)
    return SalePolicy(embedding, actor, sight, action, config.exploration_noise, config.noise_memory)
