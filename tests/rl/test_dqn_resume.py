"""DQN: a resume changes nothing, and neither does anything but the seed."""

from __future__ import annotations

import pytest
import torch

from tests.rl.dqn_runs import QUANTILE, RAINBOW, SMALL, learner_for
from tests.rl.runs import FakeTrial, check_resumes, params
from velodrome.envs.adapter import make_envs
from velodrome.rl.training import train
from velodrome.types import ParamValue


@pytest.mark.parametrize(("env", "more"), [
    ("CartPole-v1", {}), ("CartPole-v1", {"prioritized": True, "noisy": True, "n_step": 3}),
    ("MountainCar-v0", RAINBOW), ("velodrome/ProbeMask-v0", {**QUANTILE, "anneal_lr": True, "random_steps": 3.0}),
])
def test_a_resumed_run_is_bit_for_bit_the_undisturbed_one(env: str, more: dict[str, ParamValue]) -> None:
    given: dict[str, ParamValue] = {**SMALL, **more, "eval_episodes": 2, "checkpoint_s": 0.0, "buffer_size": 600}
    check_resumes(params(env, 1024, given, "dqn"), stops=(1, 3))


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    weights = []
    for seed in (1, 1, 2):
        trial = FakeTrial(params("CartPole-v1", 512, {**SMALL, "eval_episodes": 1}, "dqn"), seed=seed)
        train(trial)
        assert trial.saved is not None
        weights.append(trial.saved[1]["learner"]["network"]["weights"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_softened_run_goes_on_with_half_the_learning_rate() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        learner = learner_for(envs, {**SMALL, "noisy": True})
        noise = learner.noise.get_state()
        learner.soften(2)
        assert learner.step.lr_scale == 0.25
        assert not torch.equal(learner.noise.get_state(), noise)
