"""Training runs without a study: a trial that keeps its last checkpoint in memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.algorithms import read_params, training_space
from velodrome.rl.on_policy import OnPolicy
from velodrome.rl.training import train
from velodrome.types import ParamValue

needs_bfloat16 = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16", False), reason="bfloat16 is emulated here"
)


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
        stop_at: int | None = None, device: str = "cpu",
    ) -> None:
        self.params, self.seed, self.device = params, seed, device
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

    @property
    def steps(self) -> list[int]:
        """Those of its reports."""
        return [step for step, _ in self.reports]

    def weights(self) -> torch.Tensor:
        """Those of the last checkpoint."""
        assert self.saved is not None
        weights: torch.Tensor = self.saved[1]["learner"]["weights"]
        return weights


def check_resumes(given: dict[str, Any], stops: tuple[int, ...], device: str = "cpu") -> None:
    """A run that is cut off at any of these reports, and goes on, ends as the undisturbed one does to the last bit."""
    whole = FakeTrial(given, device=device)
    expected = train(whole)
    for stop_at in stops:
        cut = FakeTrial(given, stop_at=stop_at, device=device)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
        again = FakeTrial(given, saved=cut.saved, device=device)
        assert train(again) == expected
        assert same(again.saved, whole.saved)
        begun_at = cut.saved[0] if cut.saved else 0
        assert again.steps == [step for step in whole.steps if step > begun_at]


def same(one: Any, two: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    return bool(np.array_equal(one, two))
