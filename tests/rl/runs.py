"""Training runs without a study: a trial that keeps its last checkpoint in memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.algorithms import read_params, training_space
from velodrome.rl.on_policy import OnPolicy
from velodrome.types import ParamValue


def params(env: str, steps: int, given: Mapping[str, ParamValue], algo: str = "ppo") -> dict[str, Any]:
    """The parameters of a run."""
    return dict(training_space(algo, env, steps, given).sample(np.random.default_rng(0)))


def training_for(envs: EnvBatch, given: Mapping[str, ParamValue], *, steps: int = 100_000, seed: int = 1) -> OnPolicy:
    """A run of PPO by hand, without the environment's preset."""
    _, config = read_params({"algo": "ppo", "env": "", "steps": steps, **given})
    return OnPolicy(envs, config, steps=steps, seed=seed)


class FakeTrial:
    """What ``train`` needs of a trial. With ``stop_at``, Ctrl-C comes at that report."""

    def __init__(
        self, params: dict[str, Any], *, seed: int = 1, saved: tuple[int, Any] | None = None,
        stop_at: int | None = None,
    ) -> None:
        self.params, self.seed, self.device = params, seed, "cpu"
        self.saved, self.reports = saved, list[tuple[int, dict[str, float]]]()
        self.notes: dict[str, tuple[str, str]] = {}
        self.should_stop = self.preempted = False
        self._stop_at = stop_at

    def report(self, step: int, metrics: Mapping[str, Any], /) -> None:
        if len(self.reports) == self._stop_at:
            raise KeyboardInterrupt
        self.reports.append((step, dict(metrics)))

    def checkpoint(self, step: int, state: Any) -> None:
        self.saved = (step, copy.deepcopy(state))

    def restore(self) -> Any:
        return copy.deepcopy(self.saved[1]) if self.saved else None

    def note(self, action: str, reason: str, by: str) -> None:
        self.notes[action] = (reason, by)

    def weights(self) -> torch.Tensor:
        """Those of the last checkpoint."""
        assert self.saved is not None
        weights: torch.Tensor = self.saved[1]["learner"]["weights"]
        return weights
