"""DQN on probes: tiny environments with a known answer."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.rl.dqn_runs import QUANTILE, QUICK, RAINBOW, learner_for, run_for
from velodrome.envs.adapter import make_envs
from velodrome.envs.simulators.probes import PROBES
from velodrome.rl.evaluate import evaluate
from velodrome.rl.off_policy import OffPolicy
from velodrome.types import ParamValue


def trained(env: str, steps: int, given: dict[str, ParamValue]) -> tuple[OffPolicy, float]:
    with make_envs(env, 8) as envs:
        run = run_for(envs, given, steps=steps)
        while not run.is_done:
            run.update()
    with make_envs(env, 20) as envs:
        return run, evaluate(run.policy, envs, episodes=40, seed=9).mean


KINDS = pytest.mark.parametrize("more", [
    pytest.param({}, id="plain"), pytest.param(RAINBOW, id="rainbow"),
    pytest.param(QUANTILE, id="quantile", marks=pytest.mark.slow),
])


@KINDS
@pytest.mark.parametrize(("name", "steps"), [
    ("ProbeAction-v0", 1_000), ("ProbeContext-v0", 4_000), ("ProbeCredit-v0", 2_000), ("ProbeMask-v0", 4_000),
])
def test_a_probe_is_played_as_well_as_can_be(name: str, steps: int, more: dict[str, ParamValue]) -> None:
    probe = PROBES[name]
    _, reached = trained(f"velodrome/{name}", steps, {**QUICK, **more, "gamma": 0.8, "anneal_lr": True})
    flawed = probe.flawed_return
    assert flawed is not None
    assert reached > probe.optimal_return - 0.1 * (probe.optimal_return - flawed)


@KINDS
@pytest.mark.parametrize(("name", "steps"), [
    ("ProbeValue-v0", 2_000), ("ProbeObservation-v0", 2_000), ("ProbeDiscount-v0", 3_000),
    ("ProbeTruncation-v0", 4_000),
])
def test_a_probes_value_is_learnt(name: str, steps: int, more: dict[str, ParamValue]) -> None:
    """Not ProbeCredit's: its second observation does not tell the first action, which a buffer has random ones of."""
    probe, gamma = PROBES[name], 0.8
    run, _ = trained(f"velodrome/{name}", steps, {**QUICK, **more, "gamma": gamma})
    assert probe.value is not None
    policy = run.policy.eval()
    for obs in np.unique(run.buffer.state()["obs"].flatten(0, 1).numpy(), axis=0):
        with torch.no_grad():
            value = float(policy(policy.sight.see(obs[None])).max())
        assert value == pytest.approx(probe.value(obs, gamma), abs=0.1 * max(1.0, abs(probe.value(obs, gamma))))


class WhichHalf(gym.Env[Any, Any]):
    """One step; action 1 is right where the lower half of the image is bright, action 0 where the upper half is."""

    observation_space = gym.spaces.Box(0, 255, (8, 8, 1), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.half = int(self.np_random.integers(2))
        return self.image(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.image(), float(action == self.half), True, False, {}

    def image(self) -> Any:
        image = np.zeros((8, 8, 1), np.uint8)
        image[4 * self.half:4 * self.half + 4] = 200
        return image


@pytest.mark.parametrize("more", [{}, {**RAINBOW, "n_step": 1}], ids=["plain", "rainbow"])
def test_images_are_learnt_from(more: dict[str, ParamValue]) -> None:
    with make_envs(WhichHalf, 8) as envs:
        run = run_for(envs, {**QUICK, **more, "lr": 1e-3, "learning_starts": 64, "threads": 1}, steps=512)
        assert run.buffer.state()["obs"].dtype == torch.uint8
        while not run.is_done:
            run.update()
        assert evaluate(run.policy, envs, episodes=40, seed=9).mean == 1.0
        learner: Any = run.learner
        learner.policy.network.trunk.precision = "bfloat16"
        other = learner_for(envs, {**QUICK, **more, "precision": "float32"})
        other.load(learner.state())
        assert [net.trunk and net.trunk.precision for net in (other.policy.network, other.target)] == ["bfloat16"] * 2
