"""SAC and CrossQ: the details that are easy to get wrong, the probes, and a resume that changes nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.rl.runs import FakeTrial, check_resumes, params
from velodrome.envs.adapter import make_envs
from velodrome.errors import Diverged, UsageError
from velodrome.rl import crossq, sac
from velodrome.rl.algorithms import read_params
from velodrome.rl.evaluate import evaluate
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.replay import Transitions
from velodrome.rl.training import train
from velodrome.types import ParamValue

SMALL: dict[str, ParamValue] = {"num_envs": 4, "learning_starts": 100, "batch_size": 16, "width": 16,
                                "buffer_size": 500}
QUICK: dict[str, ParamValue] = {"num_envs": 8, "learning_starts": 200, "batch_size": 128, "width": 32,
                                "updates_per_step": 0.25, "lr": 3e-3, "critic_lr": 3e-3}
OF_ALGO: dict[str, dict[str, ParamValue]] = {"sac": {}, "crossq": {"critic_width": 32, "policy_every": 1}}
ALGOS = tuple(OF_ALGO)


def run_of(algo: str, envs: Any, given: dict[str, ParamValue], *, steps: int = 2_000, seed: int = 1) -> OffPolicy:
    _, config = read_params({"algo": algo, "env": "", "steps": steps, **OF_ALGO[algo], **given})
    module = {"sac": sac, "crossq": crossq}[algo]
    made: OffPolicy = module.learning(envs, config, steps=steps, seed=seed)
    return made


@pytest.mark.parametrize("algo", ALGOS)
def test_the_continuous_probe_is_played_as_well_as_can_be(algo: str) -> None:
    name = "velodrome/ProbeContinuous-v0"
    with make_envs(name, 8) as envs, make_envs(name, 20) as arena:
        run = run_of(algo, envs, QUICK, steps=6_000)
        while not run.is_done:
            run.update()
        assert evaluate(run.policy, arena, episodes=60, seed=9).mean > 0.1 * -1 / 3


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(("discount", "expected"), [(0.0, 1.0), (0.5, 2.0)])
def test_values_of_cut_episodes_bootstrap_and_of_ended_ones_do_not(algo: str, discount: float, expected: float) -> None:
    """Reward 1 and nowhere else to go: terminated, the value is 1; cut, it is 1 + 1/2 + 1/4 + ..."""
    given: dict[str, ParamValue] = {**SMALL, "critic_lr": 1e-2, "alpha": 1e-9}
    with make_envs("velodrome/ProbeContinuous-v0", 2) as envs:
        learner = run_of(algo, envs, {**given, "tau": 0.1} if algo == "sac" else given).learner
        for _ in range(500):
            obs = torch.randn(64, 1)
            with torch.no_grad():
                action = learner.policy.act(obs).sample()
            batch = Transitions(obs, action, torch.ones(64), torch.full((64,), discount), obs)
            figures, _ = learner.update(batch)
        assert figures[1] == pytest.approx(expected, abs=0.1)


def test_targets_follow_slowly_and_critics_are_left_alone_by_the_policy() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        run = run_of("sac", envs, {**SMALL, "tau": 0.25})
        while run.steps_done < 100:
            run._note(run._act(), envs.receive())
        learner = run.learner
        before_target, before = learner.target_weights.clone(), learner.critic_step.weights.clone()
        assert torch.equal(before_target, before)
        batch = run.buffer.sample(16, np.random.default_rng(1), gamma=0.9)
        learner.update(batch)
        after = learner.critic_step.weights.detach()
        torch.testing.assert_close(learner.target_weights.detach(), before_target + 0.25 * (after - before))
        learner._improve(batch, torch.tensor(0.1))
        assert torch.equal(learner.critic_step.weights.detach(), after)


def test_crossqs_networks_use_running_statistics_except_where_they_learn() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        run = run_of("crossq", envs, SMALL)
        while run.steps_done < 100:
            run._note(run._act(), envs.receive())
        learner = run.learner
        counts = [int(n.num_updates) for n in learner.critics[0].norms]
        learner.update(run.buffer.sample(16, np.random.default_rng(1), gamma=0.9))
        assert [int(n.num_updates) for n in learner.critics[0].norms] == [count + 1 for count in counts]
        assert [int(n.num_updates) for n in learner.policy.body.norms] == [1, 1, 1]
        assert not learner.policy.training
        assert not learner.critics.training


@pytest.mark.parametrize("algo", ALGOS)
def test_a_density_that_is_not_finite_is_named(algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        run = run_of(algo, envs, {**SMALL, "policy_every": 1})
        while run.steps_done < 100:
            run._note(run._act(), envs.receive())
        learner: Any = run.learner
        before, bad = float(learner.temperature.value), torch.tensor([0.0, math.inf])
        update = learner.temperature.update
        assert not update(bad)
        assert float(learner.temperature.value) == before
        monkeypatch.setattr(learner.temperature, "update", lambda log_prob: update(bad))
        with pytest.raises(Diverged, match="in update 1"):
            learner.update(run.buffer.sample(16, np.random.default_rng(1), gamma=0.9))


@pytest.mark.parametrize("algo", ALGOS)
def test_actions_reach_the_environments_bounds(algo: str) -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        policy = run_of(algo, envs, SMALL).policy
        assert policy.to_env(torch.tensor([[-1.0], [0.0], [0.5], [1.0]])).reshape(-1).tolist() == [-2.0, 0.0, 1.0, 2.0]
        drawn = policy.random(1_000, torch.Generator().manual_seed(1))
        assert float(drawn.min()) < -0.95
        assert float(drawn.max()) > 0.95


@pytest.mark.parametrize("algo", ALGOS)
def test_as_many_updates_as_asked_for(algo: str) -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        run = run_of(algo, envs, {**SMALL, "updates_per_step": 0.5}, steps=400)
        while not run.is_done:
            run.update()
        assert run.steps_done == 400
        assert run.learner.updates_done == 150


@pytest.mark.parametrize("algo", ALGOS)
def test_the_learning_rates_fall_if_asked(algo: str) -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        given: dict[str, ParamValue] = {**SMALL, "lr": 0.1, "critic_lr": 0.01}
        for asked, left in ((True, 0.25), (False, 1.0)):
            run = run_of(algo, envs, {**given, "anneal_lr": asked})
            while run.steps_done < 100:
                run._note(run._act(), envs.receive())
            learner = run.learner
            learner.progress = 0.75
            learner.update(run.buffer.sample(16, np.random.default_rng(1), gamma=0.9))
            rates = [learner.policy_step.lr, learner.temperature.adam.lr, learner.critic_step.lr]
            assert rates == pytest.approx([left * 0.1, left * 0.1, left * 0.01])


@pytest.mark.parametrize("algo", ALGOS)
def test_what_it_cannot_serve_is_refused(algo: str) -> None:
    with make_envs("CartPole-v1", 2) as envs, pytest.raises(UsageError, match="continuous actions"):
        run_of(algo, envs, SMALL)


@pytest.mark.parametrize("algo", ALGOS)
def test_what_is_not_finite_is_named(algo: str) -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        run = run_of(algo, envs, SMALL)
        with torch.no_grad():
            run.learner.policy_step.weights[0] = math.nan
        run._note(run._act(), envs.receive())
        with pytest.raises(Diverged, match=r"weights policy.body.weights.0: nan in update 1"):
            run.learner.update(run.buffer.sample(16, np.random.default_rng(1), gamma=0.9))


@pytest.mark.parametrize(("algo", "more"), [
    ("sac", {"normalize_obs": True, "n_step": 3, "noise_memory": 0.9, "anneal_lr": True}),
    ("crossq", {"renorm_warmup": 20}),
])
def test_a_resumed_run_is_bit_for_bit_the_undisturbed_one(algo: str, more: dict[str, ParamValue]) -> None:
    given = {**SMALL, **OF_ALGO[algo], **more, "eval_episodes": 2, "checkpoint_s": 0.0, "buffer_size": 400}
    check_resumes(params("Pendulum-v1", 640, given, algo), stops=(0, 2))


def test_a_diverged_run_goes_back_to_its_last_checkpoint_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**SMALL, "eval_episodes": 2, "checkpoint_s": 0.0}
    update, calls = sac.SAC.update, []

    def failing(self: sac.SAC, *args: Any) -> Any:
        calls.append(self.updates_done)
        if len(calls) == 700:
            raise Diverged("the loss: nan in update 700")
        return update(self, *args)

    monkeypatch.setattr(sac.SAC, "update", failing)
    trial = FakeTrial(params("Pendulum-v1", 1_280, {**given, "rollbacks": 1}, "sac"))
    train(trial)
    assert trial.saved is not None
    assert trial.saved[1]["rollbacks"] == 1
    assert trial.saved[1]["learner"]["critics"]["lr_scale"] == 0.5
    assert calls[700] < 699  # it went back
    calls.clear()
    with pytest.raises(Diverged):
        train(FakeTrial(params("Pendulum-v1", 1_280, given, "sac")))
