"""The actor: lets a policy act in environments and fills rollouts."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.devices import resume_draws
from velodrome.rl.normalize import RewardNormalizer
from velodrome.rl.policy import Policy
from velodrome.rl.recorded import Forward
from velodrome.rl.recurrent import LSTMState
from velodrome.rl.rollout import Rollout

_NUM_EPISODES = 100
"""The training return is the mean of so many last episodes."""


class Episodes:
    """Raw returns and lengths of the last hundred episodes."""

    def __init__(self) -> None:
        self.returns: deque[float] = deque(maxlen=_NUM_EPISODES)
        self.lengths: deque[int] = deque(maxlen=_NUM_EPISODES)
        self.count = 0

    def add(self, returns: Any, lengths: Any) -> None:
        """Notes episodes that ended."""
        self.returns.extend(returns.tolist())
        self.lengths.extend(lengths.tolist())
        self.count += len(returns)

    def metrics(self) -> dict[str, float]:
        """Their means, as ``return`` and ``length``; nothing before the first has ended."""
        if not self.returns:
            return {}
        return {"return": float(np.mean(self.returns)), "length": float(np.mean(self.lengths))}

    def state(self) -> dict[str, Any]:
        """What ``load`` needs."""
        return {"returns": list(self.returns), "lengths": list(self.lengths), "count": self.count}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""
        self.returns.clear()
        self.lengths.clear()
        self.returns.extend(state["returns"])
        self.lengths.extend(state["lengths"])
        self.count = state["count"]


class Actor:
    """Steps environments by a policy.

    Args:
        envs: The environments; they are reset here.
        policy: Acts on ``device``.
        seed: Of the environments.
        generator: Draws the actions; on the CPU.
        reward_normalizer: Scales what the learner sees of rewards; None for rewards as they are.
        device: Where the policy is.
    """

    def __init__(
        self, envs: EnvBatch, policy: Policy, *, seed: int, generator: Generator,
        reward_normalizer: RewardNormalizer | None, device: torch.device,
    ) -> None:
        self.envs, self.policy, self.generator = envs, policy, generator
        self.reward_normalizer = reward_normalizer
        self.episodes = Episodes()
        self._device = device
        self._forward = Forward(lambda x: policy.acting_outputs(x)[:2], device)
        obs = envs.reset(seed)
        policy.sight.learn(obs)
        self._obs = policy.sight.see(obs)
        self._state = policy.initial_state(envs.num_envs)

    @torch.no_grad()
    def fill(self, rollout: Rollout) -> None:
        """Takes the rollout's steps. What the policy normalises by goes on with every step."""
        is_recorded = self._state is None and self._device.type != "cpu"  # a recording reads the weights themselves
        with nullcontext() if is_recorded else self.policy.at_rest():
            self._fill(rollout)

    def _fill(self, rollout: Rollout) -> None:
        policy, envs = self.policy, self.envs
        rollout.begin(self._state)
        for t in range(rollout.num_steps):
            mask = None if envs.action_mask is None else envs.action_mask.copy()
            # Act: the action is kept as it was drawn, the environments clip their copy.
            head, value = self._outputs()
            pi = policy.distribution(head, None if mask is None else torch.from_numpy(mask))
            action = pi.sample(self.generator)
            acted = None if value is None else (pi.log_prob(action), value)
            step = envs.step(policy.to_env(action))
            # Note what happened.
            reward = step.reward
            if self.reward_normalizer is not None:
                self.reward_normalizer = self.reward_normalizer.update(reward, step.terminated | step.truncated)
                reward = self.reward_normalizer.normalize(reward)
            rollout.add(t, self._obs, mask, action, step, reward, policy, self._state, acted)
            if step.episode_done.any():
                self.episodes.add(step.episode_return[step.episode_done], step.episode_length[step.episode_done])
            # See what comes next, and forget the episodes that ended.
            if self._state is not None:
                ended = torch.from_numpy(step.terminated | step.truncated | ~step.valid)
                self._state = self._state.forget(self._to_device(ended))
            policy.sight.learn(step.obs)
            self._obs = policy.sight.see(step.obs)
        rollout.end(self._obs, self._state)

    def state(self) -> dict[str, Any]:
        """What ``load`` needs, environments included."""
        return {
            "envs": self.envs.get_state(), "obs": self._obs.clone(), "generator": self.generator.get_state(),
            "episodes": self.episodes.state(), "memory": None if self._state is None else list(self._state),
            "reward_normalizer": None if self.reward_normalizer is None else self.reward_normalizer.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state; bit for bit where the environments' state is exact, and says so where it is not."""
        why = self.envs.set_state(state["envs"])
        is_exact = not why
        if why:
            print(f"resumed in new episodes: {why}")
        self._obs = state["obs"] if is_exact else self.policy.sight.see(self.envs.obs)
        if self._state is not None:
            self._state = (LSTMState(*(part.to(self._device) for part in state["memory"])) if is_exact
                           else self.policy.initial_state(self.envs.num_envs))
        resume_draws(self.generator, state["generator"])
        self.episodes.load(state["episodes"])
        if self.reward_normalizer is not None:
            self.reward_normalizer = RewardNormalizer.from_state(state["reward_normalizer"])

    def _outputs(self) -> tuple[Tensor, Tensor | None]:
        """What the policy's head gives for what is seen now, and the value or None, on the CPU."""
        if self._state is None:
            head, value = self._forward(self._obs)
            return head, value
        head, value, self._state = self.policy.acting_outputs(self._to_device(self._obs), self._state)
        return head.cpu(), None if value is None else value.cpu()

    def _to_device(self, x: Tensor) -> Tensor:
        return x if self._device.type == "cpu" else x.to(self._device)
