"""A run that learns from fresh rollouts: environments, policy, actor and learner, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.actor import Actor
from velodrome.rl.devices import learning_device
from velodrome.rl.normalize import RewardNormalizer
from velodrome.rl.policy import ImageTrunk, Policy, PolicySpec
from velodrome.rl.ppo import PPO
from velodrome.rl.ppo_config import PPOConfig
from velodrome.rl.precision import choose_precision
from velodrome.rl.rollout import Rollout
from velodrome.seeding import derive

_SIDE_BY_SIDE_ROWS = 512
"""From so many rows in a minibatch on, policy and value are worth a thread each. The numbers do not depend on it."""


class OnPolicy:
    """PPO's ``Learning`` (see ``training``): one update is one rollout and what is learnt from it.

    Args:
        envs: N environments.
        config: The algorithm's settings.
        steps: Environment steps of the whole run; the last rollout may go beyond them.
        seed: Everything random derives from it.
        device: The trial's: ``cpu`` or ``cuda``.
    """

    def __init__(self, envs: EnvBatch, config: PPOConfig, *, steps: int, seed: int, device: str = "cpu") -> None:
        self.config = config
        spec = _policy_spec(config, envs.obs_layout, envs.action_layout)
        num_threads = config.threads or torch.get_num_threads()
        own_threads = config.threads if spec.is_image else 1  # those of torch's own operations
        self.device = learning_device(config.device, device, own_threads, is_image=spec.is_image)
        self.policy = Policy(spec, torch.Generator().manual_seed(derive(seed, "weights"))).to(self.device)
        self.policy.is_side_by_side = num_threads > 1 and not spec.is_image and self.device.type == "cpu" and (
            config.num_envs * config.num_steps // config.minibatches >= _SIDE_BY_SIDE_ROWS)
        self.steps_per_update = config.num_envs * config.num_steps
        self.num_updates = math.ceil(steps / self.steps_per_update)
        trunk = self.policy.trunk
        if isinstance(trunk, ImageTrunk):
            trunk.precision = choose_precision(config.precision, trunk, self.device)
            print(f"learns in {trunk.precision}")
        self.learner = PPO(self.policy, config, num_updates=self.num_updates, seed=seed)
        reward_normalizer = RewardNormalizer.empty(config.num_envs, config.gamma) if config.normalize_reward else None
        self.actor = Actor(
            envs, self.policy, seed=derive(seed, "environments") & 0x7FFF_FFFF,
            generator=torch.Generator().manual_seed(derive(seed, "actions")),
            reward_normalizer=reward_normalizer, device=self.device,
        )
        self.rollout = Rollout(config.num_steps, config.num_envs)

    @property
    def episodes(self) -> int:
        """Training episodes that ended so far."""
        return self.actor.episodes.count

    @property
    def steps_done(self) -> int:
        """Environment steps so far."""
        return self.learner.updates_done * self.steps_per_update

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.learner.updates_done >= self.num_updates

    def update(self) -> dict[str, float]:
        """One rollout and what is learnt from it; the figures to report."""
        self.actor.fill(self.rollout)
        return {**self.learner.update(self.rollout), **self.actor.episodes.metrics()}

    def soften(self, rollback: int) -> None:
        """After a rollback: half the learning rate for each so far, and other draws than before."""
        self.learner.soften(rollback)
        self.actor.generator.manual_seed(derive(self.learner.seed, "actions", "rollback", rollback))

    def state(self) -> dict[str, Any]:
        """All that changes."""
        trunk = self.policy.trunk
        precision = trunk.precision if isinstance(trunk, ImageTrunk) else None
        return {"learner": self.learner.state(), "actor": self.actor.state(), "precision": precision}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state: bit for bit on a CPU, where the environments' state is exact."""
        self.learner.load(state["learner"])
        if isinstance(self.policy.trunk, ImageTrunk):
            self.policy.trunk.precision = state["precision"]  # a new choice might be another
        self.actor.load(state["actor"])


learning = OnPolicy
"""A run of PPO."""


def make_policy(
    config: PPOConfig, obs: ObsLayout, action: ActionLayout, generator: torch.Generator | None = None
) -> Policy:
    """A policy that has learnt nothing; the generator draws its weights."""
    return Policy(_policy_spec(config, obs, action), generator)


def _policy_spec(config: PPOConfig, obs: ObsLayout, action: ActionLayout) -> PolicySpec:
    return PolicySpec(
        obs.shape, obs.dtype, action, config.network, config.width, config.depth, config.activation,
        config.log_std_init, config.normalize_obs, config.memory, config.memory_units,
    )
