"""The objective of every training run: ``train(trial)``, from its parameters to its evaluation.

``velo train`` makes a study of one such trial, ``velo sweep ppo`` one of many. All that changes goes through the
trial's checkpoints, at the end of an update, so that a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from velodrome.envs.adapter import make_envs
from velodrome.envs.env_batch import EnvBatch
from velodrome.errors import Pruned
from velodrome.rl.actor import Actor
from velodrome.rl.algorithms import RunConfig, read_params
from velodrome.rl.evaluate import evaluate
from velodrome.rl.normalize import ObservationNormalizer, RewardNormalizer
from velodrome.rl.policy import Policy, PolicySpec
from velodrome.rl.ppo import PPO
from velodrome.rl.ppo_config import PPOConfig
from velodrome.rl.rollout import Rollout
from velodrome.seeding import derive

_MAX_REPORTS = 200
"""A run reports after every update, or so often at most."""
_MIN_EPISODES = 10
"""From so many episodes on, the training return decides which weights are the best so far."""


class TrialLike(Protocol):
    """What a run needs of its trial."""

    params: dict[str, Any]
    seed: int
    device: str

    def report(self, step: int, metrics: Mapping[str, Any], /) -> None:
        """Reports figures at a step."""

    def checkpoint(self, step: int, state: Any) -> None:
        """Keeps the state after a step."""

    def restore(self) -> Any:
        """The state of the last checkpoint, or None."""

    @property
    def should_stop(self) -> bool:
        """Whether the trial is not worth going on with."""


def train(trial: TrialLike) -> dict[str, float]:
    """Trains an agent and returns the figures of its evaluation: ``return`` is the goal."""
    run, config = read_params(trial.params)
    env, steps = str(trial.params["env"]), int(trial.params["steps"])

    def make(num_envs: int) -> EnvBatch:
        return make_envs(env, num_envs)

    with make(config.num_envs) as envs:
        training = Training(envs, config, steps=steps, seed=trial.seed, device=trial.device)
        state = trial.restore()
        if state is not None:
            training.load(state)
        _run(trial, training, run)
    return final_figures(training, make, episodes=run.eval_episodes, seed=trial.seed)


class Training:
    """Environments, policy, actor and learner of a run, and how far it is.

    The calling loop: ``while not training.is_done: figures = training.update()``.

    Args:
        envs: N environments.
        config: The algorithm's settings.
        steps: Environment steps of the whole run; the last rollout may go beyond them.
        seed: Everything random derives from it.
        device: The trial's: ``cpu`` or ``cuda``.
    """

    def __init__(self, envs: EnvBatch, config: PPOConfig, *, steps: int, seed: int, device: str = "cpu") -> None:
        self.config = config
        spec = PolicySpec(
            envs.obs_layout.shape, envs.obs_layout.dtype, envs.action_layout, config.network, config.width,
            config.depth, config.activation, config.log_std_init, config.normalize_obs,
        )
        self.device = torch.device(_device(config.device, device, is_image=spec.is_image))
        if config.threads or not spec.is_image:
            # A small network is quickest on one thread, and then a run does not depend on who else is at work.
            torch.set_num_threads(config.threads or 1)
        self.policy = Policy(spec, torch.Generator().manual_seed(derive(seed, "weights"))).to(self.device)
        self.steps_per_update = config.num_envs * config.num_steps
        self.num_updates = math.ceil(steps / self.steps_per_update)
        self.learner = PPO(self.policy, config, num_updates=self.num_updates, seed=seed)
        reward_normalizer = RewardNormalizer.empty(config.num_envs, config.gamma) if config.normalize_reward else None
        self.actor = Actor(
            envs, self.policy, seed=derive(seed, "environments") & 0x7FFF_FFFF,
            generator=torch.Generator(self.device).manual_seed(derive(seed, "actions")),
            reward_normalizer=reward_normalizer, device=self.device,
        )
        self.rollout = Rollout(config.num_steps, config.num_envs)
        self.best: dict[str, Any] | None = None

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
        figures = {**self.learner.update(self.rollout), **self.actor.episodes.metrics()}
        if self.actor.episodes.count >= _MIN_EPISODES and (
            self.best is None or figures["return"] > self.best["return"]
        ):
            self.best = {"return": figures["return"], "step": self.steps_done, **self._weights()}
        return figures

    def state(self) -> dict[str, Any]:
        """All that changes."""
        return {"learner": self.learner.state(), "actor": self.actor.state(), "best": self.best}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state: bit for bit on a CPU, where the environments' state is exact."""
        self.learner.load(state["learner"])
        self.actor.load(state["actor"])
        self.best = state["best"]
        if not state["actor"]["envs"]["exact"]:
            print(f"resumed in new episodes: {state['actor']['envs']['why']}")

    def use_best(self) -> None:
        """Gives the policy the weights with the best training return so far."""
        if self.best is not None:
            with torch.no_grad():
                self.learner.weights.copy_(self.best["weights"])
            if self.best["normalizer"] is not None:
                self.policy.normalizer = ObservationNormalizer.from_state(self.best["normalizer"])

    def _weights(self) -> dict[str, Any]:
        normalizer = self.policy.normalizer
        return {"weights": self.learner.weights.detach().cpu().clone(),
                "normalizer": None if normalizer is None else normalizer.state()}


def final_figures(
    training: Training, make: Callable[[int], EnvBatch], *, episodes: int, seed: int
) -> dict[str, float]:
    """The evaluation at the end of a run: the last weights, with and without chance, then the best ones.

    ``return`` is the last weights' mean with the most likely actions, ``return_stochastic`` that with drawn ones,
    ``best_return`` that of the weights whose training return was the highest.
    """
    policy = training.policy
    last = evaluate(policy, make, episodes=episodes, seed=seed)
    drawn = evaluate(policy, make, episodes=episodes, seed=seed, deterministic=False)
    training.use_best()
    best = evaluate(policy, make, episodes=episodes, seed=seed)
    return {
        "return": last.mean, "return_std": last.std, "length": float(last.lengths.mean()),
        "return_stochastic": drawn.mean, "best_return": best.mean,
    }


def _run(trial: TrialLike, training: Training, run: RunConfig) -> None:
    """Trains to the end, with reports and checkpoints on the way."""
    every = max(1, math.ceil(training.num_updates / _MAX_REPORTS))
    saved_at = reported_at = time.monotonic()
    reported_steps = training.steps_done
    while not training.is_done:
        figures = training.update()
        now = time.monotonic()
        if training.learner.updates_done % every == 0 or training.is_done:
            speed = (training.steps_done - reported_steps) / max(now - reported_at, 1e-9)
            trial.report(training.steps_done, {**figures, "steps_per_s": speed})
            reported_at, reported_steps = now, training.steps_done
            if trial.should_stop:
                raise Pruned(f"stopped at step {training.steps_done}")
        if training.is_done or now - saved_at >= run.checkpoint_s:
            trial.checkpoint(training.steps_done, training.state())
            saved_at = time.monotonic()


def _device(wanted: str, given: str, *, is_image: bool) -> str:
    """Where to learn: a GPU pays for images alone."""
    if wanted == "auto":
        return given if is_image else "cpu"
    return wanted
