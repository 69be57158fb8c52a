"""DQN: the details that are easy to get wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.rl.dqn_runs import SMALL, fixed, learner_for, run_for, transitions
from velodrome.envs.adapter import make_envs
from velodrome.errors import Diverged, UsageError
from velodrome.rl.exploration import LastingEpsilonGreedy
from velodrome.rl.q_policy import EpsilonGreedy, draw_evenly
from velodrome.types import ParamValue


# The target network says 1, 5, 7; the online network prefers action 0, then 2, then 1. Reward 2, discount 0.9:
#   plain: 2 + 0.9 * 7 = 8.3     double: 2 + 0.9 * 1 = 2.9     terminated (discount 0): 2
# With action 0 forbidden, double takes action 2: 8.3. With 0 and 2 forbidden both take action 1: 2 + 0.9 * 5 = 6.5.
@pytest.mark.parametrize(("double", "allowed", "expected"), [
    (False, None, 8.3), (True, None, 2.9), (True, [False, True, True], 8.3), (False, [True, True, False], 6.5),
    (True, [False, True, False], 6.5), (False, [False, True, False], 6.5),
])
def test_targets_by_hand(double: bool, allowed: list[bool] | None, expected: float) -> None:
    with make_envs("velodrome/ProbeMask-v0", 1) as envs:
        learner: Any = learner_for(envs, {**SMALL, "double": double})
    learner.target = fixed(torch.tensor([1.0, 5.0, 7.0]))
    learner.policy.network.forward = fixed(torch.tensor([3.0, 1.0, 2.0]))
    mask = None if allowed is None else torch.tensor([allowed, allowed])
    batch = transitions(2, num_obs=1, reward=torch.tensor([2.0, 2.0]), discount=torch.tensor([0.9, 0.0]),
                        next_mask=mask)
    assert learner._target(batch).tolist() == pytest.approx([expected, 2.0])


def test_distributions_are_chosen_by_their_means() -> None:
    """Action 1's mean is the higher, though its most likely return is not: it is followed, and bootstrapped from."""
    with make_envs("CartPole-v1", 1) as envs:
        given = {**SMALL, "distributional": "categorical", "num_atoms": 3, "v_min": 0.0, "v_max": 10.0, "double": False}
        learner: Any = learner_for(envs, given)
    probs = torch.tensor([[0.0, 1.0, 0.0], [0.45, 0.0, 0.55]])
    learner.target = fixed(probs.log())
    assert learner.policy.values(probs.log().unsqueeze(0)).tolist() == [pytest.approx([5.0, 5.5])]
    batch = transitions(1, reward=torch.zeros(1), discount=torch.ones(1))
    assert learner._target(batch)[0].tolist() == pytest.approx([0.45, 0.0, 0.55])


def test_the_target_network_is_copied_in_time_and_stays_as_it_is_between() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        learner = learner_for(envs, {**SMALL, "target_every": 12, "updates_per_step": 0.25})  # every third update
        begin = learner.target_weights.clone()
        for done in range(1, 7):
            learner.update(transitions())
            assert torch.equal(learner.target_weights, learner.step.weights.data) == (done % 3 == 0)
            assert torch.equal(learner.target_weights, begin) == (done < 3)
        soft = learner_for(envs, {**SMALL, "target_every": 1, "tau": 0.25})
        before = soft.target_weights.clone()
        soft.update(transitions())
        torch.testing.assert_close(soft.target_weights, 0.75 * before + 0.25 * soft.step.weights.data)
        parameters = torch.cat([p.flatten() for p in soft.target.parameters()])
        assert torch.equal(parameters, soft.target_weights), "the target network has other weights than the row"


def test_epsilon_falls_in_a_straight_line() -> None:
    with make_envs("CartPole-v1", 1) as envs:
        given: dict[str, ParamValue] = {"eps_start": 1.0, "eps_end": 0.2, "exploration_fraction": 0.5}
        learner = learner_for(envs, {**SMALL, **given})
        found = []
        for learner.progress in (0.0, 0.25, 0.5, 1.0):
            found.append(learner.epsilon)
        assert found == pytest.approx([1.0, 0.6, 0.2, 0.2])
        assert learner_for(envs, {**SMALL, **given, "exploration_fraction": 0.0}).epsilon == pytest.approx(0.2)
        assert learner_for(envs, {**SMALL, **given, "noisy": True}).epsilon == 0.0
        run = run_for(envs, {**SMALL, "num_envs": 1}, steps=512)
        run.update()
        run.update()
        assert run.learner.progress == pytest.approx(511 / 512)


def test_the_learning_rate_falls_if_asked() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        learner = learner_for(envs, {**SMALL, "lr": 0.1, "anneal_lr": True})
        learner.progress = 0.75
        learner.update(transitions())
        assert learner.step.lr == pytest.approx(0.025)


def test_random_actions_are_allowed_and_as_many_as_epsilon_says() -> None:
    draw = torch.Generator().manual_seed(0)
    q = torch.tensor([9.0, 1.0, 5.0]).expand(30_000, 3)
    mask = torch.tensor([False, True, True]).expand(30_000, 3)
    best = EpsilonGreedy(q, mask, 0.4)
    assert set(best.mode().tolist()) == {2}
    shares = torch.bincount(best.sample(draw), minlength=3) / 30_000
    assert shares.tolist() == pytest.approx([0.0, 0.2, 0.8], abs=0.015)  # 5 deviations of 0.0023 at most
    assert torch.equal(EpsilonGreedy(q, mask, 0.0).sample(draw), best.mode())
    drawn = torch.bincount(draw_evenly(30_000, 3, None, draw), minlength=3) / 30_000
    assert drawn.tolist() == pytest.approx([1 / 3] * 3, abs=0.015)
    with pytest.raises(UsageError, match="forbids every action"):
        EpsilonGreedy(q[:2], torch.tensor([[True, False, True], [False, False, False]]), 0.1)


def test_random_actions_last_and_are_as_many_all_the_same() -> None:
    draw, mean_steps, epsilon = torch.Generator().manual_seed(0), 5.0, 0.3
    explore = LastingEpsilonGreedy(500, mean_steps)
    q = torch.tensor([0.0] * 9 + [1.0]).expand(500, 10)
    steps, lasting = [], []
    for _ in range(400):
        steps.append(explore.choose(q, None, epsilon, draw))
        lasting.append(explore.lasting)
    is_random = torch.stack(lasting) >= 0
    assert float(is_random[50:].float().mean()) == pytest.approx(epsilon, abs=0.02)
    # One of nine other actions begins, and is another one than that before it.
    action = torch.stack(steps)[50:]
    begins = ((action[1:] != action[:-1]) & (action[1:] != 9)).sum()
    assert float((action[1:] != 9).sum() / begins) == pytest.approx(mean_steps, rel=0.1)
    once = LastingEpsilonGreedy(500, 1.0)
    share = torch.stack([once.choose(q, None, epsilon, draw) != 9 for _ in range(100)]).float().mean()
    assert float(share) == pytest.approx(0.9 * epsilon, abs=0.01)


def test_random_actions_end_where_they_are_forbidden() -> None:
    draw = torch.Generator().manual_seed(0)
    explore, q = LastingEpsilonGreedy(200, 100.0), torch.zeros(200, 3)
    for t in range(20):
        mask = torch.ones(200, 3, dtype=torch.bool)
        mask[:, t % 3] = False
        assert not (explore.choose(q, mask, 0.9, draw) == t % 3).any()


@pytest.mark.parametrize("given", [
    {}, {"dueling": True, "depth": 0}, {"distributional": "quantile"}, {"activation": "tanh", "dueling": True},
])
def test_quick_actions_are_those_of_the_network(given: dict[str, ParamValue]) -> None:
    """After updates and a load too: both read the same weights."""
    with make_envs("CartPole-v1", 4) as envs:
        learner = learner_for(envs, {**SMALL, **given, "num_atoms": 5})
        assert learner._quick is not None
        other = learner_for(envs, {**SMALL, **given, "num_atoms": 5})
        for _ in range(3):
            learner.update(transitions())
        other.load(learner.state())
        x, network = transitions().obs, learner.policy.network
        with torch.no_grad():
            expected = network(x)
        for each in (learner, other):
            assert each._quick is not None
            torch.testing.assert_close(network.combine(each._quick(x)), expected)


def test_rewards_of_cut_episodes_bootstrap_and_of_ended_ones_do_not() -> None:
    for name, discount in (("ProbeTruncation-v0", 0.25), ("ProbeValue-v0", 0.0)):
        with make_envs(f"velodrome/{name}", 1) as envs:
            run = run_for(envs, {**SMALL, "num_envs": 1, "gamma": 0.5})
            run.update()
            batch = run.buffer.gather(np.array([3, 4]), gamma=0.5, n=2)  # ProbeTruncation's fifth step is cut
            assert batch.discount.tolist() == [discount, discount * 2]
            assert batch.reward.tolist() == ([1.5, 1.0] if discount else [1.0, 1.0])


def test_priorities_are_the_errors() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        run = run_for(envs, {**SMALL, "prioritized": True, "alpha": 1.0, "updates_per_step": 1e-3})
        run.update()
        assert run.priorities is not None
        assert run.learner.updates_done == 0
        places = np.array([3, 8, 20])
        batch = run.buffer.gather(places, gamma=0.9)
        learner: Any = run.learner
        with torch.no_grad():
            expected = learner._target(batch) - learner.policy(batch.obs)[range(3), batch.action]
        _, errors = learner.update(batch, torch.ones(3))
        run.priorities.update(places, errors)
        torch.testing.assert_close(torch.from_numpy(run.priorities.state()["weights"].numpy()[places]).float(),
                                   expected.abs(), rtol=1e-4, atol=1e-5)


def test_weights_scale_the_losses() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        one, two = (learner_for(envs, SMALL) for _ in range(2))
        half, _ = one.update(transitions(), torch.full((16,), 0.5))
        whole, _ = two.update(transitions())
        assert half[0] == pytest.approx(0.5 * whole[0])


def test_noise_is_there_in_training_renewed_by_updates_and_gone_in_playing() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        learner, x = learner_for(envs, {**SMALL, "noisy": True}), transitions().obs
        before = learner.policy(x)
        assert torch.equal(learner.policy(x), before)
        learner.step.lr_scale = 0.0
        learner.update(transitions())
        assert not torch.equal(learner.policy(x), before)
        learner.policy.eval()
        still = learner.policy(x)
        learner.policy.network.resample(learner.noise)
        assert torch.equal(learner.policy(x), still)


def test_gradients_are_clipped() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        learner = learner_for(envs, {**SMALL, "max_grad_norm": 1e-3})
        learner.update(transitions())
        gradient = learner.step.weights.grad
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("given", [{}, {"prioritized": True}, {"distributional": "categorical"}])
def test_what_is_not_finite_is_named(given: dict[str, ParamValue]) -> None:
    with make_envs("CartPole-v1", 4) as envs:
        run = run_for(envs, {**SMALL, **given})
        run.update()
        learner: Any = run.learner
        learner.target_weights.fill_(math.nan)
        weights = learner.step.weights.detach().clone()
        with pytest.raises(Diverged, match=r"target: nan in update \d+"):
            run.update()
        assert torch.equal(learner.step.weights, weights)
        with pytest.raises(Diverged, match="rewards: inf"):
            learner.update(transitions(reward=torch.full((16,), math.inf)))


@pytest.mark.parametrize(("env", "given", "match"), [
    ("Pendulum-v1", {}, r"box[\s\S]*discrete[\s\S]*sac or ppo"),
    ("CartPole-v1", {"distributional": "categorical", "v_min": 1.0, "v_max": 1.0}, "v_min below v_max"),
    ("CartPole-v1", {"network": "cnn"}, "A cnn needs images"),
])
def test_what_it_refuses(env: str, given: dict[str, ParamValue], match: str) -> None:
    with make_envs(env, 1) as envs, pytest.raises(UsageError, match=match):
        run_for(envs, given)
