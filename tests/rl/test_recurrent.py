"""PPO with memory: sequences are learnt from as they were acted, and memory is reset, cut, masked, saved and played."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from tests.rl.runs import FakeTrial, check_resumes, params, training_for
from tests.rl.test_policy import Room
from velodrome.envs.adapter import make_envs
from velodrome.envs.simulators.probes import PROBES
from velodrome.rl.evaluate import evaluate
from velodrome.rl.on_policy import OnPolicy
from velodrome.rl.recurrent import LSTMCore, LSTMState
from velodrome.rl.rollout import Batch
from velodrome.rl.training import train
from velodrome.types import ParamValue

SMALL: dict[str, ParamValue] = {
    "num_envs": 4, "num_steps": 16, "epochs": 2, "minibatches": 2, "memory": "lstm", "memory_units": 8,
}
QUICK: dict[str, ParamValue] = {
    "num_envs": 32, "num_steps": 16, "epochs": 8, "minibatches": 2, "lr": 1e-2, "memory_units": 16, "depth": 0,
}
VECTOR = spaces.Box(-1, 1, (3,), np.float32)


def rows_of(training: OnPolicy) -> Batch:
    c = training.config
    return training.rollout.batch(training.policy, gamma=c.gamma, gae_lambda=c.gae_lambda, device=training.device)


def replayed(training: OnPolicy, steps: int) -> tuple[Tensor, Tensor]:
    """Values and log-probabilities ``[T, N]`` of a rollout, one environment and one step at a time, from its start."""
    rollout, policy = training.rollout, training.policy
    assert rollout.obs is not None
    assert rollout.action is not None
    values, log_probs = torch.zeros(steps, rollout.num_envs), torch.zeros(steps, rollout.num_envs)
    for n in range(rollout.num_envs):
        state = policy.initial_state(1)
        for t in range(steps):
            if t and bool(rollout.terminated[t - 1, n] | rollout.truncated[t - 1, n] | ~rollout.valid[t - 1, n]):
                state = policy.initial_state(1)
            x, mask = rollout.obs[t, n : n + 1], None if rollout.mask is None else rollout.mask[t, n : n + 1]
            values[t, n] = policy.value(x, state)
            pi, state = policy.step(x, mask, state)
            log_probs[t, n] = pi.log_prob(rollout.action[t, n : n + 1])
    return values, log_probs


@pytest.mark.parametrize("env", ["CartPole-v1", "velodrome/ProbeMask-v0", "Pendulum-v1"])
def test_sequences_are_what_acting_saw_and_the_ratio_is_1_before_the_first_step(env: str) -> None:
    with make_envs(env, 4) as envs, torch.no_grad():
        training = training_for(envs, {**SMALL, "num_steps": 40})
        training.actor.fill(training.rollout)
        batch = rows_of(training)
        values, log_probs = replayed(training, 40)
        torch.testing.assert_close(batch.value.view(40, 4), values)
        torch.testing.assert_close(batch.log_prob.view(40, 4), log_probs)
        # A minibatch has whole environments, with all their steps.
        part = batch.parts(torch.tensor([2, 0]))
        pi, value = training.policy(part.obs, part.mask, part.memory)
        torch.testing.assert_close(value.view(40, 2), values[:, [2, 0]])
        torch.testing.assert_close(pi.log_prob(part.action).view(40, 2), log_probs[:, [2, 0]])
        torch.testing.assert_close(part.target.view(40, 2), batch.target.view(40, 4)[:, [2, 0]])
    figures, _ = training.learner._step(batch)
    assert abs(float(figures[4])) < 1e-6
    assert float(figures[5]) == 0.0


def test_a_rollout_goes_on_from_what_was_remembered() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        training = training_for(envs, SMALL)
        training.actor.fill(training.rollout)
        training.actor.fill(training.rollout)
        batch = rows_of(training)
        assert batch.memory is not None
        assert bool((batch.memory.state.h != 0).any())
        from_nothing = training.policy.initial_state(4)
        assert from_nothing is not None
        with torch.no_grad():
            _, other = training.policy(batch.obs, None, batch.memory._replace(state=from_nothing))
        assert not torch.allclose(other[:4], batch.value[:4])


def test_starts_reset_the_memory() -> None:
    """Equal observations have equal values in the first step of every episode, wherever it lies in the rollout."""
    with make_envs("velodrome/ProbeMemory-v0", 4) as envs:
        training = training_for(envs, SMALL)
        training.actor.fill(training.rollout)
        value = rows_of(training).value.view(16, 4)
        assert training.rollout.obs is not None
        cue = training.rollout.obs[..., 0]
        firsts, later = value[::4][cue[::4] == 1.0], value[3::4]
        torch.testing.assert_close(firsts, firsts[:1].expand_as(firsts))
        assert len(later.unique()) > 1  # these are remembered


class Counter(gym.Env[Any, Any]):
    """Observes the step; cut after five, with another observation than the next episode begins with."""

    observation_space, action_space = spaces.Box(-9, 9, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, False, self.t == 5, {}


def test_a_cut_episode_bootstraps_from_its_final_observation_and_what_was_remembered_there() -> None:
    """With lambda 0 and reward 1 every target is 1 + gamma V(next): by hand, from the start of each episode."""
    with make_envs(Counter, 2) as envs, torch.no_grad():
        training = training_for(envs, {**SMALL, "num_envs": 2, "num_steps": 12, "gae_lambda": 0.0, "gamma": 0.5})
        training.actor.fill(training.rollout)
        state, values = training.policy.initial_state(1), []
        for t in range(6):
            x = torch.full((1, 1), float(t))
            values.append(float(training.policy.value(x, state)))
            _, state = training.policy.step(x, None, state)
        assert len({round(value, 6) for value in values}) == 6
        expected = torch.tensor([1.0 + 0.5 * values[t % 5 + 1] for t in range(12)])
        torch.testing.assert_close(rows_of(training).target.view(12, 2), expected.unsqueeze(1).expand(12, 2))


def test_rows_that_are_no_transitions_carry_no_loss_and_leave_no_memory() -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        training = training_for(envs, SMALL)
        training.actor.fill(training.rollout)
        rollout = training.rollout
        assert rollout.obs is not None
        assert rollout.action is not None
        rollout.valid[5, 2] = False
        figures, _ = training.learner._step(rows_of(training))
        gradient = training.learner.weights.grad
        assert gradient is not None
        expected = gradient.clone()
        training = training_for(envs, SMALL)  # the same weights
        training.rollout = rollout
        value = rows_of(training).value.view(16, 4)
        obs = rollout.obs[5, 2].clone()
        rollout.obs[5, 2] = 7.0
        other = rows_of(training).value.view(16, 4)
        assert other[5, 2] != value[5, 2]
        torch.testing.assert_close(other[6:], value[6:])
        rollout.obs[5, 2] = obs
        rollout.action[5, 2] = 1.0
        rollout.reward[5, 2] = 99.0
        batch = rows_of(training)
        assert len(batch.learnt(batch.value)[0]) == 63
        torch.testing.assert_close(training.learner._step(batch)[0], figures)
        gradient = training.learner.weights.grad
        assert gradient is not None
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(("observation_space", "action_space"), [
    (VECTOR, spaces.Discrete(4)), (VECTOR, spaces.MultiDiscrete([2, 5])), (VECTOR, spaces.MultiBinary(3)),
    (VECTOR, spaces.Box(-1, 1, (2,), np.float32)), (spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.Discrete(3)),
    (spaces.Box(0, 1, (10, 10, 4), np.int8), spaces.Discrete(3)),
], ids=str)
def test_every_kind_of_observation_and_action_has_memory(observation_space: Any, action_space: Any) -> None:
    with make_envs(lambda: Room(observation_space, action_space), 2) as envs:
        training = training_for(envs, {**SMALL, "num_envs": 2, "num_steps": 4})
        assert training.policy.core is not None
        before = {name: p.detach().clone() for name, p in training.policy.named_parameters()}
        training.update()
        unmoved = [name for name, p in training.policy.named_parameters() if torch.equal(p, before[name])]
        assert unmoved == []
        assert evaluate(training.policy, envs, episodes=2).mean == 6.0


def test_a_player_forgets_the_episodes_that_ended_and_no_others() -> None:
    with make_envs("velodrome/ProbeMemory-v0", 3) as envs:
        policy = training_for(envs, {**SMALL, "num_envs": 3}).policy
        player: Any = policy.player(3)
        obs = np.ones((3, 2), np.float32)
        player.act(obs, None)
        remembered = player._state.h.clone()
        player.end(np.array([False, True, False]))
        assert torch.equal(player._state.h[[0, 2]], remembered[[0, 2]])
        assert not player._state.h[1].any()


def test_the_gradients_by_hand_are_right_for_everything_that_goes_in() -> None:
    core = LSTMCore(2, 3, generator=torch.Generator().manual_seed(1)).double()
    draw = torch.Generator().manual_seed(2)
    start_t = torch.tensor([[False, True, False], [False, False, False], [True, False, False], [False, False, True]])
    x_t = torch.randn(4, 3, 2, dtype=torch.float64, generator=draw).requires_grad_()
    h, c = (torch.randn(3, 3, dtype=torch.float64, generator=draw).requires_grad_() for _ in range(2))

    def both(x_t: Tensor, h: Tensor, c: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        y_t, last = core(x_t, LSTMState(h, c), start_t)
        return y_t, last.c

    assert torch.autograd.gradcheck(both, (x_t, h, c, *core.parameters()))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_torchs_lstm_in_pieces_gives_the_same(share: float) -> None:
    """What is used on a GPU."""
    draw = torch.Generator().manual_seed(3)
    core, start_t = LSTMCore(2, 3, generator=draw).double(), torch.rand(9, 4, generator=draw) < share
    x_t = torch.randn(9, 4, 2, dtype=torch.float64, generator=draw)
    state = LSTMState(*torch.randn(2, 4, 3, dtype=torch.float64, generator=draw))
    results = []
    for forward in (core.forward, core.in_pieces):
        y_t, last = forward(x_t, state, start_t)
        results.append((y_t, *last, *torch.autograd.grad(y_t.square().sum() + last.c.sum(), list(core.parameters()))))
    torch.testing.assert_close(results[0], results[1])


# --- learning


def reached(env: str, steps: int, given: dict[str, ParamValue]) -> float:
    with make_envs(env, 32) as envs:
        training = training_for(envs, given, steps=steps)
        while not training.is_done:
            training.update()
    with make_envs(env, 20) as envs:
        return evaluate(training.policy, envs, episodes=40, seed=9).mean


@pytest.mark.parametrize(("name", "steps"), [("ProbeMemory-v0", 8_000), ("ProbeMaskMemory-v0", 16_000)])
def test_what_is_needed_later_is_remembered(name: str, steps: int) -> None:
    probe = PROBES[name]
    assert reached(f"velodrome/{name}", steps, {**QUICK, "memory": "lstm"}) > 0.9 * probe.optimal_return
    assert reached(f"velodrome/{name}", steps, {**QUICK, "memory": "none"}) < 0.5 * probe.optimal_return


@pytest.mark.slow
def test_cartpole_without_velocities_is_solved_with_memory_alone() -> None:
    env = "velodrome/CartPoleNoVelocity-v1"
    assert train(FakeTrial(params(env, 100_000, {}), seed=1))["return"] >= 475.0
    assert train(FakeTrial(params(env, 100_000, {"memory": "none"}), seed=1))["return"] < 200.0


# --- resume


@pytest.mark.parametrize("env", ["CartPole-v1", "velodrome/ProbeMaskMemory-v0"])
def test_a_resumed_run_is_bit_for_bit_the_undisturbed_one(env: str) -> None:
    given: dict[str, ParamValue] = {**SMALL, "eval_episodes": 2, "checkpoint_s": 0.0}
    check_resumes(params(env, 640, given), stops=(0, 3, 8))
