"""A rollout: T steps of N environments, all that an on-policy learner needs of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from velodrome.envs.env_batch import Step
from velodrome.rl.policy import Policy
from velodrome.rl.returns import gae, next_values

Array = np.ndarray[Any, np.dtype[Any]]


class Batch(NamedTuple):
    """A rollout flattened to its valid rows, B of them, on the learner's device."""

    obs: Tensor
    action: Tensor
    mask: Tensor | None
    log_prob: Tensor
    """``[B]``, of the actions by the policy that acted."""
    value: Tensor
    """``[B]``, by the critic that acted."""
    advantage: Tensor
    """``[B]``, GAE, not normalised."""
    target: Tensor
    """``[B]``: advantage + value."""

    def rows(self, index: Tensor) -> Batch:
        """Some of the rows."""
        return Batch(*(None if part is None else part.index_select(0, index) for part in self))  # type: ignore[arg-type]  # mask alone may be None


class Rollout:
    """Preallocated arrays, ``[T, N, ...]``, filled step by step.

    Args:
        num_steps: T.
        num_envs: N.
    """

    def __init__(self, num_steps: int, num_envs: int) -> None:
        self.num_steps, self.num_envs = num_steps, num_envs
        shape = num_steps, num_envs
        self.reward = torch.zeros(shape)
        self.terminated = torch.zeros(shape, dtype=torch.bool)
        self.truncated = torch.zeros(shape, dtype=torch.bool)
        self.valid = torch.ones(shape, dtype=torch.bool)
        self.obs: Tensor | None = None
        self.action: Tensor | None = None
        self.mask: Tensor | None = None
        self._last_obs: Tensor | None = None
        self._finals: list[tuple[int, Array, Tensor]] = []
        names = ("reward", "terminated", "truncated", "valid")
        self._arrays = [(getattr(self, name).numpy(), name) for name in names]

    def add(
        self, t: int, obs: Tensor, mask: Array | None, action: Tensor, step: Step, reward: Array, policy: Policy
    ) -> None:
        """Notes step ``t``.

        Args:
            t: From 0; 0 begins the rollout anew.
            obs: ``[N, ...]``, what was acted on, as ``Sight.see`` gives it.
            mask: ``[N, K]`` bool, the actions that were allowed; None without masks.
            action: ``[N, ...]``, as it was drawn, before any clipping.
            step: What the environments gave; copied.
            reward: ``[N]``, as the learner is to see it.
            policy: Sees the final observations of truncated episodes.
        """
        if self.obs is None or self.action is None:
            self.obs = obs.new_empty((self.num_steps, *obs.shape))
            self.action = action.new_empty((self.num_steps, *action.shape))
            self.mask = None if mask is None else torch.empty((self.num_steps, *mask.shape), dtype=torch.bool)
        if t == 0:
            self._finals.clear()
        self.obs[t] = obs
        self.action[t] = action
        if self.mask is not None:
            self.mask[t] = torch.from_numpy(mask)
        for array, name in self._arrays:
            array[t] = reward if name == "reward" else getattr(step, name)
        if step.truncated.any():
            rows = np.flatnonzero(step.truncated & ~step.terminated & step.valid)
            if len(rows):
                self._finals.append((t, rows, policy.sight.see(step.final_obs[rows])))

    def end(self, last_obs: Tensor) -> None:
        """Notes what comes after the last step, ``[N, ...]``."""
        self._last_obs = last_obs

    @torch.no_grad()
    def batch(self, policy: Policy, *, gamma: float, gae_lambda: float, device: torch.device) -> Batch:
        """The rollout with values and advantages, flattened. A truncated episode's value is its final observation's.

        Rows that are no transitions (``Step.valid``) cut the advantages, and are left out.
        """
        assert self.obs is not None
        assert self.action is not None
        assert self._last_obs is not None
        shape = self.num_steps, self.num_envs
        obs, action = (part.flatten(0, 1).to(device) for part in (self.obs, self.action))
        mask = None if self.mask is None else self.mask.flatten(0, 1).to(device)
        pi, value = policy(obs, mask)
        log_prob = pi.log_prob(action)
        v_t = value.cpu().view(shape)
        v_last = policy.value(self._last_obs.to(device)).cpu()
        v_final_t = torch.zeros(shape)
        if self._finals:
            finals = policy.value(torch.cat([x for _, _, x in self._finals]).to(device)).cpu()
            steps = np.concatenate([np.full(len(rows), t) for t, rows, _ in self._finals])
            envs = np.concatenate([rows for _, rows, _ in self._finals])
            v_final_t[torch.from_numpy(steps), torch.from_numpy(envs)] = finals
        truncated = self.truncated | ~self.valid
        v_tp1 = next_values(v_t, v_last, self.terminated | truncated, v_final_t)
        advantage = gae(self.reward, v_t, v_tp1, self.terminated, truncated, gamma=gamma, lambda_=gae_lambda)
        target = (advantage + v_t).flatten().to(device)
        batch = Batch(obs, action, mask, log_prob, value, advantage.flatten().to(device), target)
        if bool(self.valid.all()):
            return batch
        return batch.rows(self.valid.flatten().nonzero().squeeze(-1).to(device))
