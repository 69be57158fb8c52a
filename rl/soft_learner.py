"""What SAC and CrossQ share: a squashed policy, critics and a temperature, an optimiser for each, and their state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.devices import learning_device, resume_draws
from velodrome.rl.finite import check_finite
from velodrome.rl.flat import FlatAdam
from velodrome.rl.products import choose_product_precision, compute_in
from velodrome.rl.recorded import Steps
from velodrome.rl.replay import Transitions
from velodrome.rl.squashed_policy import SquashedPolicy
from velodrome.rl.temperature import Temperature
from velodrome.seeding import derive


class SoftLearner(ABC):
    """An ``off_policy.OffPolicyLearner``, but for what a step is.

    Every set of weights is one row of numbers: one step of the optimiser, one average, one copy.

    Args:
        envs: What it acts in: its layouts are looked at.
        config: The settings: of SAC, or of CrossQ.
        make_policy: Makes what acts, of the settings, the layouts and a generator for its weights.
        make_critic: Makes what gives ``Q(s, a)``, of the sizes of its layers and that generator.
        critic_width: Units of each hidden layer of a critic.
        betas: Adam's.
        seed: Random streams are derived from it.
        device: The trial's: ``cpu`` or ``cuda``.

    Attributes:
        precision: Of the products of layers: ``float32``, ``bfloat16`` or ``tf32`` (``products``).
    """

    figures: tuple[str, ...] = ("critic_loss", "q", "policy_loss", "entropy", "alpha")
    progress = beta = 0.0

    def __init__(
        self, envs: EnvBatch, config: Any, make_policy: Callable[..., SquashedPolicy],
        make_critic: Callable[[Sequence[int], Generator], nn.Module], *, critic_width: int,
        betas: tuple[float, float], seed: int, device: str,
    ) -> None:
        self.config, self.seed = config, seed
        self.device = where = learning_device(config.device, device, config.threads, is_image=False, pays=True)
        weights = Generator().manual_seed(derive(seed, "weights"))
        self.policy = policy = make_policy(config, envs.obs_layout, envs.action_layout, weights).to(where)
        num_obs, num_actions = math.prod(envs.obs_layout.shape), math.prod(envs.action_layout.shape)
        sizes = [num_obs + num_actions, *[critic_width] * config.depth, 1]
        self.critics = critics = nn.ModuleList(make_critic(sizes, weights) for _ in range(config.num_critics)).to(where)
        self._compute_in(choose_product_precision(
            config.precision, config.batch_size, max(config.width, critic_width), where))
        self.policy_step = FlatAdam(policy, config.lr, config.max_grad_norm, betas=betas)
        self.critic_step = FlatAdam(critics, config.critic_lr, config.max_grad_norm, betas=betas)
        self.temperature = Temperature(
            fixed=config.alpha, start=config.alpha_init, target_entropy=-config.entropy_scale * num_actions,
            lr=config.lr, device=where, betas=betas,
        )
        self.generator = Generator(where).manual_seed(derive(seed, "policy noise"))
        self.updates_done = 0
        self._policy_figures = torch.cat([torch.zeros(2, device=where), self.temperature.value.view(1)])
        self._steps = Steps(self._step, where, adams=[self.critic_step, self.policy_step, self.temperature.adam],
                            generators=[self.generator], save=self.state, load=self.load)

    def update(self, batch: Transitions, weights: Tensor | None = None) -> tuple[list[float], Tensor | None]:
        """One step of the critics and, every ``policy_every`` of these, of policy and temperature.

        Returns:
            The figures, as ``figures`` names them, and no errors: transitions are drawn evenly.

        Raises:
            Diverged: If a loss or gradient is no finite number any more.
        """
        left = 1.0 - self.progress if self.config.anneal_lr else 1.0
        self.critic_step.lr = left * self.config.critic_lr
        self.policy_step.lr = self.temperature.adam.lr = left * self.config.lr
        improves = (self.updates_done + 1) % self.config.policy_every == 0
        figures, _ = self._steps(batch.seen_by(self.policy.sight), weights, improves)
        self.updates_done += 1
        return figures, None

    @abstractmethod
    def _step(self, batch: Transitions, weights: Tensor | None, improves: bool) -> tuple[Tensor, None]:
        """A step of the critics, and of the policy if it ``improves``; the figures ``[5]``."""

    def outputs(self, x: Tensor) -> Tensor:
        """What ``explore`` goes by, ``[N, 2 K]``."""
        out: Tensor = self.policy.body(x)
        return out

    def explore(self, outputs: Tensor, mask: Tensor | None, generator: Generator) -> Tensor:
        """Actions to take while training, ``[N, K]``."""
        return self.policy.explore(outputs, generator)

    def _compute_in(self, precision: str) -> None:
        self.precision = precision
        compute_in(precision, [self.policy.body, *self.critics], self.device)

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
            "noise": self.policy.noise.state(), "updates_done": self.updates_done,
            "figures": self._policy_figures.tolist(), "precision": self.precision,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, bit for bit on a CPU."""
        self.policy_step.load(state["policy"])
        self.critic_step.load(state["critics"])
        self.temperature.load(state["temperature"])
        resume_draws(self.generator, state["generator"])
        self.policy.noise.load(state["noise"])
        self._policy_figures.copy_(torch.tensor(state["figures"]))
        self.updates_done = state["updates_done"]
        self._compute_in(state.get("precision", "float32"))  # a new choice might be another; older states have none


def critic_values(critics: nn.ModuleList, x: Tensor, action: Tensor, *, frozen: bool = False) -> Tensor:
    """``[M, B]``: what each critic says of observations ``[B, D]`` and actions ``[B, K]``.

    If ``frozen``, gradients flow to the actions alone.
    """
    both = torch.cat([x, action], -1)
    return torch.cat([critic(both, frozen=frozen) for critic in critics], -1).t()
