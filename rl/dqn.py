"""Deep Q-learning: the learner (Mnih et al. 2015, "Human-level control through deep reinforcement learning").

With Rainbow's additions by switches (Hessel et al. 2018). The calling loop is ``off_policy``'s: ``action =
learner.explore(learner.outputs(x), mask, generator)`` per step, ``learner.update(batch)`` per update.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.env_batch import EnvBatch
from velodrome.rl import td_losses
from velodrome.rl.dense import Mlp
from velodrome.rl.devices import learning_device, resume_draws
from velodrome.rl.dqn_config import DQNConfig
from velodrome.rl.exploration import LastingEpsilonGreedy
from velodrome.rl.finite import check_finite
from velodrome.rl.flat import FlatAdam, flatten
from velodrome.rl.losses import huber
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.policy import PolicySpec
from velodrome.rl.precision import choose_precision
from velodrome.rl.prioritized import Priorities
from velodrome.rl.q_head import QuickMlp
from velodrome.rl.q_policy import EpsilonGreedy, QPolicy, check_discrete, q_network
from velodrome.rl.recorded import Steps
from velodrome.rl.replay import Transitions
from velodrome.seeding import derive


def learning(envs: EnvBatch, config: DQNConfig, *, steps: int, seed: int, device: str = "cpu") -> OffPolicy:
    """A run of DQN."""
    learner = DQN(envs, config, seed=seed, device=device)
    priorities = (lambda size: Priorities(size, alpha=config.alpha)) if config.prioritized else None
    return OffPolicy(envs, config, learner, steps=steps, seed=seed, priorities=priorities)


class DQN:
    """Learns from transitions.

    Args:
        envs: What it acts in: its layouts are looked at.
        config: The settings.
        seed: Its random streams are derived from it.
        device: The trial's: ``cpu`` or ``cuda``.

    Raises:
        UsageError: If the actions are not discrete.
    """

    figures: tuple[str, ...] = ("loss", "q", "epsilon")

    def __init__(self, envs: EnvBatch, config: DQNConfig, *, seed: int, device: str = "cpu") -> None:
        self.config, self.seed = config, seed
        is_image = _policy_spec(config, envs.obs_layout, envs.action_layout).is_image
        self.device = learning_device(config.device, device, config.threads, is_image=is_image)
        weights = Generator().manual_seed(derive(seed, "weights"))
        self.policy = make_policy(config, envs.obs_layout, envs.action_layout, weights).to(self.device)
        network = self.policy.network
        if network.trunk is not None:
            network.trunk.precision = choose_precision(config.precision, network.trunk, self.device)
            print(f"learns in {network.trunk.precision}")
        self.target = copy.deepcopy(network).requires_grad_(False)
        # Every set of weights is one row of numbers: one step of the optimiser, one copy.
        self.step = FlatAdam(self.policy, config.lr, config.max_grad_norm, eps=config.adam_eps)
        self.target_weights = flatten(self.target).requires_grad_(False)
        self._quick: QuickMlp | None = None
        if isinstance(network.layers, Mlp) and network.trunk is None and self.device.type == "cpu":
            self._quick = QuickMlp(network.layers)
        self.exploration = LastingEpsilonGreedy(envs.num_envs, config.random_steps)
        self.noise = Generator(self.device).manual_seed(derive(seed, "noise"))
        self._steps = Steps(self._step, self.device, adams=[self.step], generators=[self.noise], save=self.state,
                            load=self.load)
        self.updates_done = 0
        self.progress = 0.0
        self._copy_every = max(1, round(config.target_every * config.updates_per_step))

    @property
    def beta(self) -> float:
        """How much of the bias of priorities is undone now: all of it at the end."""
        return float(self.config.beta + (1.0 - self.config.beta) * self.progress)

    @property
    def epsilon(self) -> float:
        """The share of random actions now."""
        config = self.config
        if config.noisy:
            return 0.0
        done = min(1.0, self.progress / config.exploration_fraction) if config.exploration_fraction else 1.0
        return config.eps_start + done * (config.eps_end - config.eps_start)

    def outputs(self, x: Tensor) -> Tensor:
        """What ``explore`` goes by, the values ``[N, A]``."""
        network = self.policy.network
        out = network(x) if self._quick is None else network.combine(self._quick(x))
        return self.policy.values(out)

    def explore(self, q: Tensor, mask: Tensor | None, generator: Generator) -> Tensor:
        """Actions to take while training, ``[N]``."""
        if self.config.random_steps > 1.0:
            return self.exploration.choose(q, mask, self.epsilon, generator)
        return EpsilonGreedy(q, mask, self.epsilon).sample(generator)

    def update(self, batch: Transitions, weights: Tensor | None = None) -> tuple[list[float], Tensor | None]:
        """One gradient step.

        Args:
            batch: B transitions.
            weights: ``[B]``, of their losses; None for 1 each.

        Returns:
            The figures, as ``figures`` names them, and the errors ``[B]``: of values, or losses of distributions.

        Raises:
            Diverged: If the loss or a gradient is no finite number any more.
        """
        config = self.config
        self.step.lr = config.lr * (1.0 - self.progress) if config.anneal_lr else config.lr
        figures, errors = self._steps(batch.seen_by(self.policy.sight), weights)
        self.updates_done += 1
        if self.updates_done % self._copy_every == 0:
            self.target_weights.lerp_(self.step.weights.detach(), config.tau)
        return [*figures, self.epsilon], errors

    def _step(self, batch: Transitions, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same on the device; the figures but for epsilon, ``[2]``, and the errors."""
        policy, noisy = self.policy, self.config.noisy
        if noisy:
            self.target.resample(self.noise)
        with torch.no_grad():
            target = self._target(batch)
        out = policy.network(batch.obs)
        loss, errors = self._losses(out, batch.action, target)
        loss = loss.mean() if weights is None else (weights * loss).mean()
        if not self.step.descend(loss):
            self._explain(batch, target=target, values=out, loss=loss)
        if noisy:
            policy.network.resample(self.noise)
        return torch.stack([loss.detach(), policy.values(out.detach()).mean()]), errors

    def _target(self, batch: Transitions) -> Tensor:
        """What the network should say: values ``[B]``, or probabilities of atoms or quantiles, ``[B, K]``."""
        policy = self.policy
        out = self.target(batch.next_obs)
        chooses_by = policy(batch.next_obs) if self.config.double else policy.values(out)
        best = td_losses.allowed_values(chooses_by, batch.next_mask).argmax(-1)
        after = td_losses.taken(out, best)
        if policy.atoms is not None:
            return td_losses.project_categorical(batch.reward, batch.discount, after.softmax(-1), policy.atoms)
        if self.config.distributional == "quantile":
            return td_losses.quantile_target(batch.reward, batch.discount, after)
        return batch.reward + batch.discount * after

    def _losses(self, out: Tensor, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and errors, ``[B]`` each."""
        if self.config.distributional == "none":
            error = td_losses.q_error(out, action, target)
            return huber(error), error.detach()
        distance = td_losses.quantile_loss if self.policy.atoms is None else td_losses.categorical_loss
        loss = distance(out, action, target)
        return loss, loss.detach()

    def _explain(self, batch: Transitions, **results: Tensor) -> None:
        """Raises Diverged with the first thing that is not finite."""
        modules = {"network": self.policy.network}
        check_finite(batch.named(), modules, results, where=f"in update {self.updates_done + 1}")

    def soften(self, rollback: int) -> None:
        """Halves the learning rate for each rollback, and draws otherwise than before."""
        self.step.lr_scale = 0.5**rollback
        self.noise.manual_seed(derive(self.seed, "noise", "rollback", rollback))

    def state(self) -> dict[str, Any]:
        """What ``load`` needs."""
        trunk = self.policy.network.trunk
        return {
            "network": self.step.state(), "target": self.target_weights.clone(), "sight": self.policy.sight.state(),
            "noise": self.noise.get_state(), "updates_done": self.updates_done,
            "lasting": self.exploration.lasting.clone(), "precision": None if trunk is None else trunk.precision,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, bit for bit on a CPU."""
        self.step.load(state["network"])
        self.target_weights.copy_(state["target"])
        self.policy.sight.load(state["sight"])
        resume_draws(self.noise, state["noise"])
        self.updates_done = state["updates_done"]
        self.exploration.lasting = state["lasting"].cpu()
        for trunk in (self.policy.network.trunk, self.target.trunk):
            if trunk is not None:
                trunk.precision = state["precision"]  # a new choice might be another


def make_policy(
    config: DQNConfig, obs: ObsLayout, action: ActionLayout, generator: Generator | None = None
) -> QPolicy:
    """A policy that has learnt nothing; the generator draws its weights.

    Raises:
        UsageError: If the actions are not discrete.
    """
    spec, kind = _policy_spec(config, obs, action), config.distributional
    network = q_network(
        spec, num_atoms=1 if kind == "none" else config.num_atoms, dueling=config.dueling, noisy=config.noisy,
        generator=generator,
    )
    atoms = torch.linspace(config.v_min, config.v_max, config.num_atoms) if kind == "categorical" else None
    return QPolicy(
        spec, network, atoms=atoms, is_quantile=kind == "quantile",
        epsilon=0.0 if config.noisy else config.eps_end,
    )


def _policy_spec(config: DQNConfig, obs: ObsLayout, action: ActionLayout) -> PolicySpec:
    check_discrete(action.kind, "dqn")
    return PolicySpec(
        obs.shape, obs.dtype, action, network=config.network, width=config.width, depth=config.depth,
        activation=config.activation, normalize_obs=config.normalize_obs,
    )
