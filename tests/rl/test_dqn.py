"""DQN: the details that are easy to get wrong, the probes, and a resume that changes nothing."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.rl.runs import FakeTrial, params
from velodrome.envs.adapter import make_envs
from velodrome.envs.env_batch import EnvBatch
from velodrome.envs.simulators.probes import PROBES
from velodrome.errors import Diverged, UsageError
from velodrome.rl.algorithms import read_params
from velodrome.rl.dqn import DQN, learning
from velodrome.rl.evaluate import evaluate
from velodrome.rl.exploration import LastingEpsilonGreedy
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.q_policy import EpsilonGreedy, draw_evenly
from velodrome.rl.replay import Transitions
from velodrome.rl.training import train
from velodrome.types import ParamValue

SMALL: dict[str, ParamValue] = {"num_envs": 4, "width": 16, "depth": 1, "batch_size": 16, "learning_starts": 32}
QUICK: dict[str, ParamValue] = {
    "num_envs": 8, "width": 32, "depth": 1, "batch_size": 32, "learning_starts": 200, "lr": 5e-3, "target_every": 50,
    "updates_per_step": 0.5, "exploration_fraction": 0.5, "max_grad_norm": 0.0,
}
RAINBOW: dict[str, ParamValue] = {
    "double": True, "dueling": True, "noisy": True, "prioritized": True, "n_step": 3, "distributional": "categorical",
    "num_atoms": 21, "v_min": -6.0, "v_max": 10.0, "normalize_obs": True,
}
QUANTILE: dict[str, ParamValue] = {**RAINBOW, "noisy": False, "distributional": "quantile", "n_step": 2}


def run_for(envs: EnvBatch, given: dict[str, ParamValue], *, steps: int = 100_000, seed: int = 1) -> OffPolicy:
    _, config = read_params({"algo": "dqn", "env": "", "steps": steps, **given})
    return learning(envs, config, steps=steps, seed=seed)


def learner_for(envs: EnvBatch, given: dict[str, ParamValue]) -> DQN:
    _, config = read_params({"algo": "dqn", "env": "", "steps": 1, **given})
    return DQN(envs, config, seed=1)


def transitions(size: int = 16, *, num_obs: int = 4, **more: Any) -> Transitions:
    draw = torch.Generator().manual_seed(0)
    batch = Transitions(
        torch.randn(size, num_obs, generator=draw), torch.randint(2, (size,), generator=draw),
        torch.randn(size, generator=draw), torch.full((size,), 0.9), torch.randn(size, num_obs, generator=draw),
    )
    return batch._replace(**more)


def fixed(out: Tensor) -> Any:
    """A network that says the same of every observation."""
    return lambda x: out.expand(len(x), *out.shape)


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
    assert learner._target(batch, batch.next_obs).tolist() == pytest.approx([expected, 2.0])


def test_distributions_are_chosen_by_their_means() -> None:
    """Action 1's mean is the higher, though its most likely return is not: it is followed, and bootstrapped from."""
    with make_envs("CartPole-v1", 1) as envs:
        given = {**SMALL, "distributional": "categorical", "num_atoms": 3, "v_min": 0.0, "v_max": 10.0, "double": False}
        learner: Any = learner_for(envs, given)
    probs = torch.tensor([[0.0, 1.0, 0.0], [0.45, 0.0, 0.55]])
    learner.target = fixed(probs.log())
    assert learner.policy.values(probs.log().unsqueeze(0)).tolist() == [pytest.approx([5.0, 5.5])]
    batch = transitions(1, reward=torch.zeros(1), discount=torch.ones(1))
    assert learner._target(batch, batch.next_obs)[0].tolist() == pytest.approx([0.45, 0.0, 0.55])


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
    explore = LastingEpsilonGreedy(500, mean_steps, torch.device("cpu"))
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
    once = LastingEpsilonGreedy(500, 1.0, torch.device("cpu"))
    share = torch.stack([once.choose(q, None, epsilon, draw) != 9 for _ in range(100)]).float().mean()
    assert float(share) == pytest.approx(0.9 * epsilon, abs=0.01)


def test_random_actions_end_where_they_are_forbidden() -> None:
    draw = torch.Generator().manual_seed(0)
    explore, q = LastingEpsilonGreedy(200, 100.0, torch.device("cpu")), torch.zeros(200, 3)
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
            expected = learner._target(batch, batch.next_obs) - learner.policy(batch.obs)[range(3), batch.action]
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


# --- probes: tiny environments with a known answer


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


# --- resume


@pytest.mark.parametrize(("env", "more"), [
    ("CartPole-v1", {}), ("CartPole-v1", {"prioritized": True, "noisy": True, "n_step": 3}),
    ("MountainCar-v0", RAINBOW), ("velodrome/ProbeMask-v0", {**QUANTILE, "anneal_lr": True, "random_steps": 3.0}),
])
def test_a_resumed_run_is_bit_for_bit_the_undisturbed_one(env: str, more: dict[str, ParamValue]) -> None:
    given: dict[str, ParamValue] = {**SMALL, **more, "eval_episodes": 2, "checkpoint_s": 0.0, "buffer_size": 600}
    whole = FakeTrial(params(env, 1024, given, "dqn"))
    expected = train(whole)
    for stop_at in (1, 3):
        cut = FakeTrial(params(env, 1024, given, "dqn"), stop_at=stop_at)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
        again = FakeTrial(params(env, 1024, given, "dqn"), saved=cut.saved)
        assert train(again) == expected
        assert same(again.saved, whole.saved)


def same(one: Any, two: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, Tensor):
        return torch.equal(one, two)
    return bool(np.array_equal(one, two))


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
