"""What a trained policy is to those who only play with it: evaluation, ``velo play``, the run that keeps the best one.

The calling loop::

    player = policy.player(num_envs)
    obs = envs.reset(seed)
    while ...:
        step = envs.step(player.act(obs, envs.action_mask, generator))     # None for the most likely actions
        player.end(step.terminated | step.truncated | ~step.valid)
        obs = step.obs
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor, nn

from velodrome.rl.recurrent import LSTMState
from velodrome.rl.sight import Sight

Array = np.ndarray[Any, np.dtype[Any]]


class Player(Protocol):
    """Plays in N environments side by side."""

    def act(self, obs: Array, mask: Array | None, generator: Generator | None = None) -> Array:
        """Actions for ``EnvBatch.step``: drawn with the generator, or without one the most likely ones."""

    def end(self, done: Array) -> None:
        """Forgets the episodes that ended, and what was seen in steps that were no transitions: ``[N]``, bool."""


class Choice(Protocol):
    """What to choose actions by: a distribution, or values of actions."""

    def mode(self) -> Tensor:
        """The best or most likely action."""

    def sample(self, generator: Generator | None = None) -> Tensor:
        """One that is drawn."""


class Agent(Protocol):
    """A policy that can be played with, whatever learnt it. An ``nn.Module``."""

    sight: Sight

    def player(self, num_envs: int) -> Player:
        """Plays in so many environments, from the first step of an episode on."""

    def act(self, x: Tensor, mask: Tensor | None = None) -> Choice:
        """What to choose actions by, for what ``sight.see`` gave."""

    def to_env(self, action: Tensor) -> Array:
        """A batch of actions as ``EnvBatch.step`` takes them."""


class RecurrentAgent(Agent, Protocol):
    """An agent that remembers what it saw in an episode."""

    def initial_state(self, num_envs: int) -> LSTMState | None:
        """What is remembered when episodes begin."""

    def step(self, x: Tensor, mask: Tensor | None, state: LSTMState | None) -> tuple[Choice, LSTMState | None]:
        """What to choose actions by, and what is remembered afterwards."""


class ForgetfulPlayer:
    """A ``Player`` for a policy that looks at the newest observation alone."""

    def __init__(self, policy: Agent, device: torch.device) -> None:
        self._policy, self._device = policy, device

    @torch.no_grad()
    def act(self, obs: Array, mask: Array | None, generator: Generator | None = None) -> Array:
        """See ``Player``."""
        allowed = None if mask is None else torch.from_numpy(mask.copy()).to(self._device)
        pi = self._policy.act(self._policy.sight.see(obs).to(self._device), allowed)
        return self._policy.to_env(pi.mode() if generator is None else pi.sample(generator))

    def end(self, done: Array) -> None:
        """There is nothing to forget."""


class RecurrentPlayer:
    """A ``Player`` for a policy with memory."""

    def __init__(self, policy: RecurrentAgent, num_envs: int, device: torch.device) -> None:
        self._policy, self._device = policy, device
        self._state = policy.initial_state(num_envs)

    @torch.no_grad()
    def act(self, obs: Array, mask: Array | None, generator: Generator | None = None) -> Array:
        """See ``Player``."""
        allowed = None if mask is None else torch.from_numpy(mask.copy()).to(self._device)
        x = self._policy.sight.see(obs).to(self._device)
        pi, self._state = self._policy.step(x, allowed, self._state)
        return self._policy.to_env(pi.mode() if generator is None else pi.sample(generator))

    def end(self, done: Array) -> None:
        """See ``Player``."""
        assert self._state is not None
        self._state = self._state.forget(torch.from_numpy(done).to(self._device))


def snapshot(policy: nn.Module) -> dict[str, Any]:
    """All that the policy's actions depend on, on the CPU."""
    sight: Any = policy.sight
    return {"modules": {name: part.detach().cpu().clone() for name, part in policy.state_dict().items()},
            "sight": sight.state()}


def restore(policy: nn.Module, saved: Mapping[str, Any]) -> None:
    """Gives the policy what ``snapshot`` kept, in place."""
    sight: Any = policy.sight
    policy.load_state_dict(dict(saved["modules"]))
    sight.load(saved["sight"])
