"""TD7: who learns from whom, what targets are held to, the probe, and a resume that changes nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.rl.runs import check_resumes, params
from velodrome.envs.adapter import make_envs
from velodrome.errors import Diverged, UsageError
from velodrome.rl import td7
from velodrome.rl.algorithms import read_params
from velodrome.rl.evaluate import evaluate
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.replay import Transitions
from velodrome.rl.sale import unit
from velodrome.rl.sale_policy import NoisyActions
from velodrome.rl.td7 import prioritized_loss
from velodrome.types import ParamValue

SMALL: dict[str, ParamValue] = {"num_envs": 4, "learning_starts": 100, "batch_size": 16, "width": 16, "embedding": 8,
                                "buffer_size": 500}
QUICK: dict[str, ParamValue] = {"num_envs": 8, "learning_starts": 200, "batch_size": 64, "width": 32, "embedding": 16,
                                "updates_per_step": 0.25, "target_every": 50, "lr": 3e-3, "critic_lr": 3e-3}


def run_of(envs: Any, given: dict[str, ParamValue], *, steps: int = 2_000, seed: int = 1) -> OffPolicy:
    _, config = read_params({"algo": "td7", "env": "", "steps": steps, **given})
    return td7.learning(envs, config, steps=steps, seed=seed)


def begun(envs: Any, given: dict[str, ParamValue]) -> tuple[Any, Transitions]:
    """A learner and a minibatch of random steps in these environments."""
    run = run_of(envs, given)
    while run.steps_done < 100:
        run._note(run._act(), envs.receive())
    return run.learner, run.buffer.sample(16, np.random.default_rng(1), gamma=0.9)


def numbers(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([part.detach().flatten() for part in module.parameters()])


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_the_continuous_probe_is_played_as_well_as_can_be(alpha: float) -> None:
    name = "velodrome/ProbeContinuous-v0"
    with make_envs(name, 8) as envs, make_envs(name, 20) as arena:
        run = run_of(envs, {**QUICK, "alpha": alpha}, steps=5_000)
        assert (run.priorities is None) == (alpha == 0.0)
        while not run.is_done:
            run.update()
        assert evaluate(run.policy, arena, episodes=60, seed=9).mean > 0.1 * -1 / 3


@pytest.mark.parametrize(("discount", "expected"), [(0.0, 1.0), (0.5, 2.0)])
def test_values_of_cut_episodes_bootstrap_and_of_ended_ones_do_not(discount: float, expected: float) -> None:
    """Reward 1 and nowhere else to go: terminated, the value is 1; cut, it is 1 + 1/2 + 1/4 + ..."""
    with make_envs("velodrome/ProbeContinuous-v0", 2) as envs:
        learner = run_of(envs, {**SMALL, "critic_lr": 3e-3, "target_every": 20}).learner
        for _ in range(500):
            obs = torch.randn(64, 1)
            with torch.no_grad():
                action = learner.policy.act(obs).mode()
            batch = Transitions(obs, action, torch.ones(64), torch.full((64,), discount), obs)
            figures, _ = learner.update(batch)
        assert figures[1] == pytest.approx(expected, abs=0.1)


def test_three_embeddings_take_turns() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        learner, batch = begun(envs, {**SMALL, "target_every": 3})
        first = numbers(learner.embedding)
        assert torch.equal(numbers(learner.policy.embedding), first)
        assert torch.equal(numbers(learner.targets["embedding"]), first)
        for _ in range(2):
            learner.update(batch)
        assert not torch.equal(numbers(learner.embedding), first)
        assert torch.equal(numbers(learner.policy.embedding), first)
        learner.update(batch)
        second = numbers(learner.embedding)
        assert torch.equal(numbers(learner.policy.embedding), second)
        assert torch.equal(numbers(learner.targets["embedding"]), first)
        assert torch.equal(numbers(learner.targets["actor"]), numbers(learner.policy.actor))
        assert torch.equal(numbers(learner.targets["critics"]), numbers(learner.critics))
        for _ in range(3):
            learner.update(batch)
        assert torch.equal(numbers(learner.targets["embedding"]), second)


def test_each_learns_by_its_own_loss_alone() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        learner, batch = begun(envs, {**SMALL, "policy_every": 2})
        parts = {"actor": learner.policy.actor, "critics": learner.critics, "embedding": learner.embedding,
                 "fixed": learner.policy.embedding}

        def changed(step: Any) -> set[str]:
            before = {name: numbers(part) for name, part in parts.items()}
            step()
            return {name for name, part in parts.items() if not torch.equal(before[name], numbers(part))}

        with torch.no_grad():
            zs = learner.policy.embedding.of_state(batch.obs)
        assert changed(lambda: learner._embed(batch)) == {"embedding"}
        assert changed(lambda: learner._improve(batch, zs)) == {"actor"}
        assert changed(lambda: learner.update(batch)) == {"embedding", "critics"}
        assert changed(lambda: learner.update(batch)) == {"embedding", "critics", "actor"}


def test_an_embedding_learns_to_foretell_the_next_one() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        learner, batch = begun(envs, {**SMALL, "critic_lr": 1e-3})
        losses = [learner._embed(batch) for _ in range(200)]
        assert losses[-1] < 0.2 * losses[0]
        with torch.no_grad():
            size = float(learner.embedding.of_state(batch.obs).abs().mean())
        assert size == pytest.approx(1.0)  # not by vanishing


def test_what_comes_after_a_step_is_held_to_the_values_seen_before() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        learner, batch = begun(envs, {**SMALL, "target_every": 1})
        assert torch.equal(learner._targets_for(batch), batch.reward)  # nothing was seen: 0
        learner.update(batch)
        low, high = learner._bounds.tolist()
        assert (low, high) == (float(batch.reward.min()), float(batch.reward.max()))
        with torch.no_grad():
            for critic in learner.targets["critics"]:
                critic.rest.biases[-1].fill_(1e6)
        torch.testing.assert_close(learner._targets_for(batch), batch.reward + batch.discount * high)


def test_the_loss_and_the_priorities_by_hand() -> None:
    errors = torch.tensor([[0.5, 2.0], [0.0, 1.0]], requires_grad=True)
    loss = prioritized_loss(errors)
    assert float(loss.detach()) == pytest.approx((0.125 + 2.0) / 2 + (0.0 + 1.0) / 2)
    loss.backward()
    assert errors.grad is not None
    assert errors.grad.tolist() == [[0.25, 0.5], [0.0, 0.5]]
    with make_envs("Pendulum-v1", 4) as envs:
        learner, batch = begun(envs, {**SMALL, "lr": 0.0, "critic_lr": 0.0})
        batch = batch._replace(reward=torch.linspace(-5.0, 0.0, 16))
        _, found = learner.update(batch)
        assert found.min() == 1.0
        assert 3.0 < found[0] < 7.0


def test_units_have_a_mean_size_of_one() -> None:
    x = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    assert unit(x).tolist() == [[0.5, -1.5], [0.0, 0.0]]


def test_noise_stays_within_the_bounds() -> None:
    actions = NoisyActions(torch.tensor([[0.9, -0.2]]).expand(1_000, 2), 0.3)
    drawn = actions.sample(torch.Generator().manual_seed(1))
    assert drawn.max() == 1.0
    assert float(drawn[:, 1].std()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(actions.mode()[0], torch.tensor([0.9, -0.2]))


def test_as_many_updates_as_asked_for_at_rates_that_fall_if_asked() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        rates: Any = {"lr": 0.1, "critic_lr": 0.01, "anneal_lr": True}
        run = run_of(envs, {**SMALL, **rates, "updates_per_step": 0.5}, steps=400)
        while run.steps_done < 300:
            run.update()
        learner = run.learner
        learner.progress = 0.75
        learner._set_learning_rates()
        now = [learner.policy_step.lr, learner.critic_step.lr, learner.embedding_step.lr]
        assert now == pytest.approx([0.025, 0.0025, 0.0025])
        while not run.is_done:
            run.update()
        assert learner.updates_done == 150


def test_what_it_cannot_serve_is_refused() -> None:
    with make_envs("CartPole-v1", 2) as envs, pytest.raises(UsageError, match="td7 can't choose such actions"):
        run_of(envs, SMALL)


def test_what_is_not_finite_is_named() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        learner, batch = begun(envs, SMALL)
        with torch.no_grad():
            learner.critic_step.weights[0] = math.nan
        with pytest.raises(Diverged, match=r"weights critics.0.first.weights.0: nan in update 1"):
            learner.update(batch)


@pytest.mark.parametrize("more", [{}, {"alpha": 0.0, "normalize_obs": True, "n_step": 3, "noise_memory": 0.9}])
def test_a_resumed_run_is_bit_for_bit_the_undisturbed_one(more: dict[str, ParamValue]) -> None:
    given = {**SMALL, **more, "target_every": 70, "eval_episodes": 2, "checkpoint_s": 0.0, "buffer_size": 400}
    check_resumes(params("Pendulum-v1", 640, given, "td7"), stops=(0, 2))
