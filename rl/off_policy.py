"""A run that learns from a replay buffer: environments, learner, buffer, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from velodrome.envs.env_batch import EnvBatch, Step
from velodrome.rl.actor import Episodes
from velodrome.rl.devices import resume_draws
from velodrome.rl.prioritized import Priorities
from velodrome.rl.recorded import Forward
from velodrome.rl.replay import Field, ReplayBuffer, Transitions
from velodrome.seeding import derive, generator

_STEPS_PER_ROUND = 256
"""Environment steps in one ``update``, about: what is reported, and kept in checkpoints, lies between them."""


class OffPolicyLearner(Protocol):
    """What learns from transitions.

    Attributes:
        config: Its settings; the loop's own are among them: num_envs, buffer_size, learning_starts, batch_size,
            updates_per_step, gamma, n_step.
        policy: Acts (an ``Agent``), with ``random(num_envs, generator)``.
        device: Where it learns.
        updates_done: Gradient steps so far.
        progress: The share of the run that is done; the loop sets it.
        beta: How much is undone now of the bias that drawing by priorities brings; without them it is not looked at.
    """

    config: Any
    policy: Any
    device: torch.device
    updates_done: int
    progress: float

    @property
    def beta(self) -> float:
        """See above."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of what ``update`` returns."""

    def outputs(self, x: Tensor) -> Tensor:
        """What the policy's network gives for normalised observations, on the learner's device."""

    def explore(self, outputs: Tensor, mask: Tensor | None, generator: Generator) -> Tensor:
        """Actions to take while training, by these, on the CPU."""

    def update(self, batch: Transitions, weights: Tensor | None = None) -> tuple[list[float], Tensor | None]:
        """Learns from a minibatch; its figures, and the errors ``[B]`` that priorities are made of."""

    def soften(self, rollback: int) -> None:
        """Halves the learning rate for each rollback, and draws otherwise than before."""

    def state(self) -> dict[str, Any]:
        """What ``load`` needs."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""


class OffPolicy:
    """A ``Learning`` (see ``training``) for learners with a replay buffer.

    Args:
        envs: N environments.
        config: The algorithm's settings.
        learner: What learns; its settings are ``config``.
        steps: Environment steps of the whole run.
        seed: Everything random derives from it.
        priorities: Makes priorities for so many places, to draw transitions by; None draws them evenly.
    """

    def __init__(
        self, envs: EnvBatch, config: Any, learner: OffPolicyLearner, *, steps: int, seed: int,
        priorities: Callable[[int], Priorities] | None = None,
    ) -> None:
        self.envs, self.config, self.learner, self.policy = envs, config, learner, learner.policy
        self.steps, self._seed = steps, seed
        self.steps_done = 0
        self._episodes = Episodes()
        self._device = learner.device
        self._forward = Forward(lambda x: (learner.outputs(x),), learner.device)
        self._actions = Generator().manual_seed(derive(seed, "actions"))
        self._random = Generator().manual_seed(derive(seed, "first actions"))
        self._draws = generator(seed, "replay")
        obs = envs.reset(derive(seed, "environments") & 0x7FFF_FFFF)
        self.policy.sight.learn(obs)
        self._obs = self.policy.sight.raw(obs)
        action = self.policy.random(envs.num_envs, self._random)
        capacity = max(1, min(config.buffer_size, steps) // envs.num_envs)
        mask = envs.action_mask
        self.buffer = ReplayBuffer(
            capacity, envs.num_envs, Field(tuple(self._obs.shape[1:]), self._obs.dtype),
            Field(tuple(action.shape[1:]), action.dtype),
            num_masked=None if mask is None else mask.shape[1], device=self._device,
        )
        self.priorities = None if priorities is None else priorities((capacity + 1) * envs.num_envs)

    @property
    def episodes(self) -> int:
        """Training episodes that ended so far."""
        return self._episodes.count

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.steps_done >= self.steps

    def update(self) -> dict[str, float]:
        """Some steps of all environments, and the gradient steps that are due; the means of their figures."""
        num_steps = max(1, _STEPS_PER_ROUND // self.envs.num_envs)
        rows: list[list[float]] = []
        for _ in range(num_steps):
            # While the environments step, in processes of their own where they are slow, the learner learns.
            action = self._act()
            rows += [self._learn() for _ in range(self._num_due())]
            self._note(action, self.envs.receive())
            if self.is_done:
                rows += [self._learn() for _ in range(self._num_due())]
                break
        means = dict(zip(self.learner.figures, np.mean(rows, 0).tolist(), strict=True)) if rows else {}
        return {**means, **self._episodes.metrics()}

    def _act(self) -> Tensor:
        """Begins a step of all environments, with random actions at first; returns them."""
        envs, policy = self.envs, self.policy
        self.learner.progress = min(1.0, self.steps_done / self.steps)
        mask = None if envs.action_mask is None else torch.from_numpy(envs.action_mask.copy())
        if self.steps_done < self.config.learning_starts:
            action: Tensor = policy.random(envs.num_envs, self._random, mask)
        else:
            outputs, = self._forward(policy.sight.normalize(self._obs))
            action = self.learner.explore(outputs, mask, self._actions)
        envs.send(policy.to_env(action))
        return action

    def _note(self, action: Tensor, step: Step) -> None:
        """Takes what a step gave into the buffer, and sees what comes next."""
        sight = self.policy.sight
        next_obs = sight.raw(step.obs)
        final_obs = sight.raw(step.final_obs) if step.truncated.any() else next_obs
        places = self.buffer.add(
            self._obs, action, step.reward, step.terminated, step.truncated, next_obs, final_obs,
            valid=step.valid, next_mask=step.action_mask,
        )
        if self.priorities is not None:
            self.priorities.insert(places, step.valid)
        if step.episode_done.any():
            self._episodes.add(step.episode_return[step.episode_done], step.episode_length[step.episode_done])
        sight.learn(step.obs)
        self._obs = next_obs
        self.steps_done += self.envs.num_envs

    def _num_due(self) -> int:
        """Gradient steps that are to be done now."""
        since = self.steps_done - self.config.learning_starts
        return max(0, int(since * self.config.updates_per_step) - self.learner.updates_done)

    def _learn(self) -> list[float]:
        """One gradient step."""
        config, buffer = self.config, self.buffer
        how = {"gamma": config.gamma, "n": config.n_step}
        if self.priorities is None:
            return self.learner.update(buffer.sample(config.batch_size, self._draws, **how))[0]
        draw = self.priorities.sample(config.batch_size, self._draws, beta=self.learner.beta)
        batch = buffer.gather(draw.places, **how)
        figures, errors = self.learner.update(batch, draw.weights.to(self._device))
        assert errors is not None
        self.priorities.update(draw.places, errors)
        return figures

    def soften(self, rollback: int) -> None:
        """See ``training.Learning``."""
        self.learner.soften(rollback)
        self._actions.manual_seed(derive(self._seed, "actions", "rollback", rollback))

    def state(self) -> dict[str, Any]:
        """All that changes, the buffer included."""
        return {
            "learner": self.learner.state(), "envs": self.envs.get_state(), "obs": self._obs.clone(),
            "buffer": self.buffer.state(), "steps_done": self.steps_done, "episodes": self._episodes.state(),
            "actions": self._actions.get_state(), "random": self._random.get_state(),
            "draws": self._draws.bit_generator.state,
            "priorities": None if self.priorities is None else self.priorities.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state: bit for bit on a CPU, where the environments' state is exact."""
        self.learner.load(state["learner"])
        why = self.envs.set_state(state["envs"])
        self.buffer.load_state(state["buffer"])
        self._obs = state["obs"]
        if why:
            print(f"resumed in new episodes: {why}")
            self._obs = self.policy.sight.raw(self.envs.obs)
            self.buffer.cut()
        self.steps_done = state["steps_done"]
        self._episodes.load(state["episodes"])
        resume_draws(self._actions, state["actions"])
        resume_draws(self._random, state["random"])
        self._draws.bit_generator.state = state["draws"]
        if self.priorities is not None:
            self.priorities.load_state(state["priorities"])
