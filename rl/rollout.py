"""A rollout: T steps of N environments, all that an on-policy learner needs of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from velodrome.envs.env_batch import Step
from velodrome.rl.policy import Policy
from velodrome.rl.recurrent import LSTMState, Memory
from velodrome.rl.returns import gae, next_values

Array = np.ndarray[Any, np.dtype[Any]]


class Batch(NamedTuple):
    """A rollout flattened to its valid rows, B of them, on the learner's device.

    With memory all rows are there, ``[T * N]`` with T first, since what is no transition is a part of the sequence.
    """

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
    valid: Tensor | None = None
    """``[B]``, bool, with memory: the rows to learn from; None for all."""
    memory: Memory | None = None
    """What the sequences begin with."""

    @property
    def num_parts(self) -> int:
        """What minibatches are drawn from: rows, or with memory the sequences of whole environments."""
        return len(self.value) if self.memory is None else self.memory.start_t.shape[1]

    def parts(self, index: Tensor) -> Batch:
        """Some of the rows, or with memory of the environments."""
        columns: dict[str, Any] = {
            name: None if column is None else self._pick(column, index)
            for name, column in zip(self._fields, self[:-1], strict=False)
        }
        return self._replace(**columns, memory=None if self.memory is None else self.memory.rows(index))

    def learnt(self, *columns: Tensor) -> tuple[Tensor, ...]:
        """The columns ``[B]`` at the rows to learn from."""
        return columns if self.valid is None else tuple(column[self.valid] for column in columns)

    def _pick(self, column: Any, index: Tensor) -> Tensor:
        if self.memory is None:
            picked: Tensor = column.index_select(0, index)
        else:
            picked = column.view(*self.memory.start_t.shape, *column.shape[1:]).index_select(1, index).flatten(0, 1)
        return picked


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
        self._acted: Tensor | None = None
        self._last_obs: Tensor | None = None
        self._first_state: LSTMState | None = None
        self._last_state: LSTMState | None = None
        self._finals: list[tuple[int, Array, Tensor, LSTMState | None]] = []
        names = ("reward", "terminated", "truncated", "valid")
        self._arrays = [(getattr(self, name).numpy(), name) for name in names]

    def begin(self, state: LSTMState | None) -> None:
        """Begins anew, with what is remembered before the first step; None without memory."""
        self._first_state = state
        self._finals.clear()

    def add(
        self, t: int, obs: Tensor, mask: Array | None, action: Tensor, step: Step, reward: Array, policy: Policy,
        state: LSTMState | None, acted: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Notes step ``t``.

        Args:
            t: From 0.
            obs: ``[N, ...]``, what was acted on, as ``Sight.see`` gives it.
            mask: ``[N, K]`` bool, the actions that were allowed; None without masks.
            action: ``[N, ...]``, as it was drawn, before any clipping.
            step: What the environments gave; copied.
            reward: ``[N]``, as the learner is to see it.
            policy: Sees the final observations of truncated episodes.
            state: What is remembered after ``obs``, before anything is forgotten.
            acted: Log-probability of the action and value, ``[N]`` each, where acting gave both.
        """
        if self.obs is None or self.action is None:
            self.obs = obs.new_empty((self.num_steps, *obs.shape))
            self.action = action.new_empty((self.num_steps, *action.shape))
            self.mask = None if mask is None else torch.empty((self.num_steps, *mask.shape), dtype=torch.bool)
            self._acted = None if acted is None else torch.empty(2, self.num_steps, self.num_envs)
        self.obs[t] = obs
        self.action[t] = action
        if self._acted is not None and acted is not None:
            self._acted[0, t], self._acted[1, t] = acted
        if self.mask is not None:
            self.mask[t] = torch.from_numpy(mask)
        for array, name in self._arrays:
            array[t] = reward if name == "reward" else getattr(step, name)
        if step.truncated.any():
            rows = np.flatnonzero(step.truncated & ~step.terminated & step.valid)
            if len(rows):
                there = None if state is None else state.rows(torch.from_numpy(rows).to(state.h.device))
                self._finals.append((t, rows, policy.sight.see(step.final_obs[rows]), there))

    def end(self, last_obs: Tensor, state: LSTMState | None) -> None:
        """Notes what comes after the last step, ``[N, ...]``, and what is remembered then."""
        self._last_obs, self._last_state = last_obs, state

    @torch.no_grad()
    def batch(self, policy: Policy, *, gamma: float, gae_lambda: float, device: torch.device) -> Batch:
        """The rollout with values and advantages, flattened. A truncated episode's value is its final observation's.

        Rows that are no transitions (``Step.valid``) cut the advantages, and are left out (see ``Batch``). With memory,
        every value is that of an observation and of what was remembered there.
        """
        assert self.obs is not None
        assert self.action is not None
        assert self._last_obs is not None
        shape = self.num_steps, self.num_envs
        obs, action = (part.flatten(0, 1).to(device) for part in (self.obs, self.action))
        mask = None if self.mask is None else self.mask.flatten(0, 1).to(device)
        memory = self._memory(device)
        if self._acted is None:
            pi, value = policy(obs, mask, memory)
            log_prob = pi.log_prob(action)
        else:
            log_prob, value = self._acted.flatten(1).to(device)
        v_t = value.cpu().view(shape)
        v_last = policy.value(self._last_obs.to(device), self._last_state).cpu()
        v_final_t = torch.zeros(shape)
        if self._finals:
            states = [state for *_, state in self._finals if state is not None]
            state = LSTMState(*map(torch.cat, zip(*states, strict=True))) if states else None
            finals = policy.value(torch.cat([x for _, _, x, _ in self._finals]).to(device), state).cpu()
            steps = np.concatenate([np.full(len(rows), t) for t, rows, _, _ in self._finals])
            envs = np.concatenate([rows for _, rows, _, _ in self._finals])
            v_final_t[torch.from_numpy(steps), torch.from_numpy(envs)] = finals
        reward, terminated, all_valid = self.reward, self.terminated, bool(self.valid.all())
        if not all_valid:  # an advantage of 0, so that the steps before it are worth what their observations are
            reward, terminated = torch.where(self.valid, reward, v_t), terminated | ~self.valid
        v_tp1 = next_values(v_t, v_last, terminated | self.truncated, v_final_t)
        advantage = gae(reward, v_t, v_tp1, terminated, self.truncated, gamma=gamma, lambda_=gae_lambda)
        target = (advantage + v_t).flatten().to(device)
        batch = Batch(obs, action, mask, log_prob, value, advantage.flatten().to(device), target)
        if memory is not None:
            return batch._replace(memory=memory, valid=None if all_valid else self.valid.flatten().to(device))
        if all_valid:
            return batch
        return batch.parts(self.valid.flatten().nonzero().squeeze(-1).to(device))

    def _memory(self, device: torch.device) -> Memory | None:
        """What the sequences begin with: a step starts an episode if the one before ended it, or was no transition."""
        if self._first_state is None:
            return None
        ended = self.terminated | self.truncated | ~self.valid
        start_t = torch.cat([torch.zeros_like(ended[:1]), ended[:-1]])
        return Memory(self._first_state, start_t.to(device))
