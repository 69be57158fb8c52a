"""PPO: the details that are easy to get wrong, the probes, and a resume that changes nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.rl.runs import FakeTrial, check_resumes, params, training_for
from velodrome.envs.adapter import make_envs
from velodrome.envs.env_batch import EnvBatch
from velodrome.envs.simulators.probes import PROBES
from velodrome.errors import Diverged
from velodrome.rl.evaluate import evaluate
from velodrome.rl.on_policy import OnPolicy
from velodrome.rl.training import train
from velodrome.types import ParamValue

SMALL: dict[str, ParamValue] = {"num_envs": 4, "num_steps": 16, "epochs": 2, "minibatches": 2}
QUICK: dict[str, ParamValue] = {
    "num_envs": 16, "num_steps": 16, "epochs": 8, "minibatches": 2, "lr": 5e-3, "width": 32, "depth": 1,
}


def rows_of(training: OnPolicy) -> Any:
    c = training.config
    return training.rollout.batch(training.policy, gamma=c.gamma, gae_lambda=c.gae_lambda, device=training.device)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "velodrome/ProbeMask-v0"])
def test_the_ratio_is_1_before_the_first_step(env: str) -> None:
    with make_envs(env, 4) as envs:
        training = training_for(envs, SMALL)
        training.actor.fill(training.rollout)
        batch = rows_of(training)
        part = batch.parts(torch.arange(0, len(batch.value), 3))
        pi, value = training.policy(part.obs, part.mask)
        torch.testing.assert_close((pi.log_prob(part.action) - part.log_prob).exp(), torch.ones(len(value)),
                                   rtol=0, atol=1e-5)
        torch.testing.assert_close(value, part.value, rtol=0, atol=1e-5)
        # One gradient step on all rows, and it moves.
        figures, _ = training.learner._step(batch)
        assert abs(float(figures[4])) < 1e-6
        assert float(figures[5]) == 0.0
        pi, _ = training.policy(part.obs, part.mask)
        assert float((pi.log_prob(part.action) - part.log_prob).detach().abs().max()) > 1e-5


def test_actions_are_stored_as_they_were_drawn_and_clipped_for_the_environment_alone() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        training = training_for(envs, {**SMALL, "log_std_init": 2.0})
        training.actor.fill(training.rollout)
        action = training.rollout.action
        assert action is not None
        assert float(action.abs().max()) > 2.0


def test_values_of_cut_episodes_bootstrap_and_of_ended_ones_do_not() -> None:
    """With lambda 0, the target of a step is its reward plus the discounted value of what it leads to."""
    with make_envs("velodrome/ProbeTruncation-v0", 2) as envs:
        training = training_for(envs, {"num_envs": 2, "num_steps": 7, "gae_lambda": 0.0, "gamma": 0.5})
        training.actor.fill(training.rollout)
        batch = rows_of(training)
        assert training.rollout.truncated.any()
        torch.testing.assert_close(batch.target, 1.0 + 0.5 * batch.value)  # every observation is the same
    with make_envs("velodrome/ProbeValue-v0", 2) as envs:
        training = training_for(envs, {"num_envs": 2, "num_steps": 3, "gae_lambda": 0.0, "gamma": 0.5})
        training.actor.fill(training.rollout)
        torch.testing.assert_close(rows_of(training).target, torch.ones(6))


def test_rows_that_are_no_transitions_are_left_out() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        training = training_for(envs, SMALL)
        training.actor.fill(training.rollout)
        whole = rows_of(training)
        training.rollout.valid[5, 2] = False
        batch = rows_of(training)
        assert len(batch.value) == len(whole.value) - 1
        kept = torch.ones(16, 4, dtype=torch.bool)
        kept[5, 2] = False
        same = kept.clone()
        same[:6, 2] = False  # cut there, so the advantages before it are others
        torch.testing.assert_close(batch.advantage[same[kept]], whole.advantage.view(16, 4)[same])
        torch.testing.assert_close(batch.obs, whole.obs.view(16, 4, -1)[kept])
        # The step before it is worth its reward and what its next observation is, whatever the reward there.
        training.rollout.reward[5, 2] = 99.0
        value, reward = whole.value.view(16, 4), training.rollout.reward[4, 2]
        advantage = rows_of(training).advantage[18]
        assert not training.rollout.terminated[4, 2]
        torch.testing.assert_close(advantage, reward + training.config.gamma * value[5, 2] - value[4, 2])


def test_a_lone_row_is_not_normalised_away() -> None:
    with make_envs("velodrome/ProbeValue-v0", 1) as envs:
        training = training_for(envs, {"num_envs": 1, "num_steps": 1, "epochs": 1, "minibatches": 4})
        figures = training.update()
        assert math.isfinite(figures["loss"])
        assert abs(figures["policy_loss"]) > 0.1  # ratio 1 times the advantage of about 1


def test_the_learning_rate_falls_in_a_straight_line() -> None:
    with make_envs("velodrome/ProbeValue-v0", 4) as envs:
        training = training_for(envs, {**SMALL, "lr": 0.1}, steps=4 * 16 * 4)
        rates = []
        while not training.is_done:
            rates.append(training.update()["learning_rate"])
        assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])
        assert training.learner.adam.eps == 1e-5


def test_a_far_move_ends_the_update() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        far = {**SMALL, "epochs": 30, "lr": 0.05}
        moved = training_for(envs, far).update()["approx_kl"]
        stopped = training_for(envs, {**far, "target_kl": 0.01}).update()["approx_kl"]
        assert stopped < moved


def test_gradients_are_clipped() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        training = training_for(envs, {**SMALL, "max_grad_norm": 1e-3})
        training.update()
        gradient = training.learner.weights.grad
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_what_is_not_finite_is_named() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        training = training_for(envs, SMALL)
        with torch.no_grad():
            next(iter(training.policy.critic.weights))[0, 0] = math.nan
        with pytest.raises(Diverged, match=r"value targets|advantages"):
            training.update()


# --- probes: tiny environments with a known answer


def trained(env: str, steps: int, given: dict[str, ParamValue]) -> tuple[OnPolicy, float]:
    with make_envs(env, int(given.get("num_envs", 8) or 8)) as envs:
        training = training_for(envs, given, steps=steps)
        while not training.is_done:
            training.update()
    with make_envs(env, 20) as envs:
        return training, evaluate(training.policy, envs, episodes=40, seed=9).mean


@pytest.mark.parametrize(("name", "steps"), [
    ("ProbeAction-v0", 4_000), ("ProbeContext-v0", 12_000), ("ProbeCredit-v0", 6_000), ("ProbeMask-v0", 12_000),
    ("ProbeContinuous-v0", 40_000),
])
def test_a_probe_is_played_as_well_as_can_be(name: str, steps: int) -> None:
    probe = PROBES[name]
    given = {**QUICK, "log_std_init": -0.5}
    _, reached = trained(f"velodrome/{name}", steps, given)
    flawed = probe.flawed_return
    assert flawed is not None
    assert reached > probe.optimal_return - 0.1 * (probe.optimal_return - flawed)


def test_what_masks_tell_can_not_be_learnt_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EnvBatch, "action_mask", None)
    _, reached = trained("velodrome/ProbeMask-v0", 12_000, QUICK)
    assert reached < 0.5 * PROBES["ProbeMask-v0"].optimal_return


@pytest.mark.parametrize(("name", "steps"), [
    ("ProbeValue-v0", 4_000), ("ProbeObservation-v0", 8_000), ("ProbeDiscount-v0", 8_000), ("ProbeCredit-v0", 8_000),
    ("ProbeTruncation-v0", 40_000),
])
def test_a_probes_value_is_learnt(name: str, steps: int) -> None:
    probe, gamma = PROBES[name], 0.8
    training, _ = trained(f"velodrome/{name}", steps, {**QUICK, "gamma": gamma, "max_grad_norm": 0.0})
    assert probe.value is not None
    seen = training.rollout.obs
    assert seen is not None
    for obs in np.unique(seen.flatten(0, 1).numpy(), axis=0):
        with torch.no_grad():
            value = float(training.policy.value(torch.from_numpy(obs)[None]))
        assert value == pytest.approx(probe.value(obs, gamma), abs=0.1 * max(1.0, abs(probe.value(obs, gamma))))


# --- resume


@pytest.mark.parametrize(("env", "more"), [
    ("CartPole-v1", {}), ("Pendulum-v1", {"normalize_obs": True, "normalize_reward": True}),
    ("velodrome/ProbeMask-v0", {"target_kl": 0.01}),
])
def test_a_resumed_run_is_bit_for_bit_the_undisturbed_one(env: str, more: dict[str, ParamValue]) -> None:
    given: dict[str, ParamValue] = {**SMALL, **more, "eval_episodes": 2, "checkpoint_s": 0.0}
    check_resumes(params(env, 640, given), stops=(0, 3, 8))


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    weights = []
    for seed in (1, 1, 2):
        trial = FakeTrial(params("CartPole-v1", 256, {**SMALL, "eval_episodes": 1}), seed=seed)
        train(trial)
        weights.append(trial.weights())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_cartpole_is_solved(seed: int) -> None:
    result = train(FakeTrial(params("CartPole-v1", 100_000, {}), seed=seed))
    assert result["return"] >= 475.0


def test_cartpole_is_learnt() -> None:
    result = train(FakeTrial(params("CartPole-v1", 30_000, {}), seed=1))
    assert result["return"] >= 475.0
