"""The objective of every training run: ``train(trial)``, from its parameters to its evaluation.

``velo train`` makes a study of one such trial, ``velo sweep ppo`` one of many. All that changes goes through the
trial's checkpoints, at the end of an update, so that a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from velodrome.envs.adapter import make_envs
from velodrome.envs.env_batch import EnvBatch
from velodrome.errors import Diverged, Pruned
from velodrome.rl.agent import restore, snapshot
from velodrome.rl.algorithms import RunConfig, env_settings, learning_of, learns_meanwhile, read_params
from velodrome.rl.choices import choices
from velodrome.rl.evaluate import MAX_ENVS, evaluate

_MAX_REPORTS = 200
"""A run reports after every update, or so often at most."""
_MIN_EPISODES = 10
"""From so many episodes on, the training return decides which weights are the best so far."""
_CHECKPOINT_SHARE = 20
"""Between two checkpoints lies so many times the time that one takes: a large replay buffer is kept less often."""


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

    def note(self, action: str, reason: str, by: str) -> None:
        """Keeps a choice that was made, with its reason."""

    @property
    def should_stop(self) -> bool:
        """Whether the trial is to end here."""

    @property
    def preempted(self) -> bool:
        """Whether it is to make a checkpoint now, which ends it for the time being."""


class Learning(Protocol):
    """Environments, policy and learner of a run: ``while not learning.is_done: figures = learning.update()``.

    Made of (envs, config, steps=, seed=, device=). ``policy`` is an ``Agent``.
    """

    policy: Any

    @property
    def episodes(self) -> int:
        """Training episodes that ended so far."""

    @property
    def steps_done(self) -> int:
        """Environment steps so far."""

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""

    def update(self) -> dict[str, float]:
        """Some steps and what is learnt from them; the figures to report. Raises Diverged."""

    def soften(self, rollback: int) -> None:
        """After the so many-th rollback: half the learning rate for each, and other draws than before."""

    def state(self) -> dict[str, Any]:
        """All that changes."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""


def train(trial: TrialLike) -> dict[str, float]:
    """Trains an agent and returns the figures of its evaluation: ``return`` is the goal."""
    run, config = read_params(trial.params)
    algo, env, steps = str(trial.params["algo"]), str(trial.params["env"]), int(trial.params["steps"])
    with ExitStack() as stack:
        how = env_settings(env, run)
        envs = stack.enter_context(make_envs(env, config.num_envs, learns_meanwhile=learns_meanwhile(algo), **how))
        learning = learning_of(algo)(envs, config, steps=steps, seed=trial.seed, device=trial.device)
        arena = stack.enter_context(make_envs(env, min(run.eval_episodes, MAX_ENVS), **how))
        for action, reason in choices(config, run.mode, learning.policy, envs.source):
            trial.note(action, reason, by=algo)
        training = Training(trial, learning, run, arena, steps=steps)
        training.go()
        return training.final_figures()


class Training:
    """The loop around a ``Learning``: reports, evaluations on the way, checkpoints, rollbacks, the best weights.

    Args:
        trial: Where reports and checkpoints go.
        learning: What learns.
        run: The run's settings.
        arena: Environments to evaluate in.
        steps: Environment steps of the whole run.
    """

    def __init__(self, trial: TrialLike, learning: Learning, run: RunConfig, arena: EnvBatch, *, steps: int) -> None:
        self.trial, self.learning, self.run, self.arena = trial, learning, run, arena
        self.best: dict[str, Any] | None = None
        self.rollbacks = 0
        self.has_arrived = False
        self._report_every = max(1, steps // _MAX_REPORTS)
        state = trial.restore()
        if state is not None:
            self._load(state)

    def go(self) -> None:
        """Trains to the end, or until ``stop_return`` is reached."""
        trial, learning, run = self.trial, self.learning, self.run
        wait_s = run.checkpoint_s
        saved_at = reported_at = time.monotonic()
        reported_steps = learning.steps_done
        while not (learning.is_done or self.has_arrived):
            before = learning.steps_done
            figures = self._update()
            if figures is None:
                continue
            steps = learning.steps_done
            self._look_at(figures, since=before)
            now = time.monotonic()
            is_last = learning.is_done or self.has_arrived
            if is_last or steps // self._report_every > before // self._report_every or "eval_return" in figures:
                speed = (steps - reported_steps) / max(now - reported_at, 1e-9)
                trial.report(steps, {**figures, "steps_per_s": speed})
                reported_at, reported_steps = now, steps
                if not trial.preempted and trial.should_stop:
                    raise Pruned(f"stopped at step {steps}")
            if is_last or now - saved_at >= wait_s or trial.preempted:
                trial.checkpoint(steps, self.state())
                saved_at = time.monotonic()
                wait_s = max(run.checkpoint_s, _CHECKPOINT_SHARE * (saved_at - now)) if run.checkpoint_s else 0.0

    def final_figures(self) -> dict[str, float]:
        """The evaluation at the end of a run: the last weights, with and without chance, then the best ones.

        ``return`` is the last weights' mean with the most likely actions, ``return_stochastic`` that with drawn ones,
        ``best_return`` that of the best weights on the way.
        """
        policy = self.learning.policy
        how: dict[str, Any] = {"episodes": self.run.eval_episodes, "seed": self.trial.seed}
        last = evaluate(policy, self.arena, **how)
        drawn = evaluate(policy, self.arena, deterministic=False, **how)
        if self.best is not None:
            restore(policy, self.best["policy"])
        best = evaluate(policy, self.arena, **how)
        return {
            "return": last.mean, "return_std": last.std, "length": float(last.lengths.mean()),
            "return_stochastic": drawn.mean, "best_return": best.mean, "steps": float(self.learning.steps_done),
        }

    def state(self) -> dict[str, Any]:
        """All that changes."""
        return {
            **self.learning.state(), "policy": snapshot(self.learning.policy), "best": self.best,
            "rollbacks": self.rollbacks, "has_arrived": self.has_arrived,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.learning.load(state)
        self.best, self.rollbacks, self.has_arrived = state["best"], state["rollbacks"], state["has_arrived"]

    def _update(self) -> dict[str, float] | None:
        """One update; None if it diverged, and the run was rolled back to its last checkpoint."""
        try:
            return self.learning.update()
        except Diverged as problem:
            state = self.trial.restore() if self.rollbacks < self.run.rollbacks else None
            if state is None:
                raise
            rollbacks = self.rollbacks + 1
            self._load(state)
            self.rollbacks = rollbacks
            self.learning.soften(rollbacks)
            print(f"rolled back to step {self.learning.steps_done}, with half the learning rate: {problem}")
            return None

    def _look_at(self, figures: dict[str, float], *, since: int) -> None:
        """Evaluates where it is time to, and keeps the policy if it is the best so far. Adds to the figures."""
        learning, run = self.learning, self.run
        if not run.eval_every:
            score = figures.get("return", -math.inf) if learning.episodes >= _MIN_EPISODES else -math.inf
        elif learning.steps_done // run.eval_every > since // run.eval_every:
            played = evaluate(learning.policy, self.arena, episodes=run.eval_episodes, seed=self.trial.seed)
            score = figures["eval_return"] = played.mean
            self.has_arrived = score >= run.stop_return
        else:
            return
        if score > (-math.inf if self.best is None else self.best["return"]):
            self.best = {"return": score, "step": learning.steps_done, "policy": snapshot(learning.policy)}
