"""Golden values worked out by hand, sums written out in plain Python, and what must hold for any rollout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from velodrome.errors import UsageError
from velodrome.rl import returns


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool).unsqueeze(1)


@dataclass
class Rollout:
    r_t: Tensor
    v_t: Tensor
    v_tp1: Tensor
    terminated_t: Tensor
    truncated_t: Tensor

    def __post_init__(self) -> None:
        self.parts = (self.r_t, self.v_t, self.v_tp1, self.terminated_t, self.truncated_t)
        self.targets = (self.r_t, self.v_tp1, self.terminated_t, self.truncated_t)


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    """Rewards and values of any size up to 10, with ends of both kinds; the values fit together."""
    steps, envs, seed = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(0, 2**32 - 1))
    p_end = draw(st.sampled_from([0.0, 0.2, 0.6, 1.0]))
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(-10, 10, shape))

    done = torch.from_numpy(rng.random((steps, envs)) < p_end)
    terminated = done & torch.from_numpy(rng.random((steps, envs)) < 0.5)
    v_t = floats(steps, envs)
    v_tp1 = returns.next_values(v_t, floats(envs), done, floats(steps, envs))
    return Rollout(floats(steps, envs), v_t, v_tp1, terminated, done & ~terminated)


gammas = st.sampled_from([0.0, 0.5, 0.99, 1.0])
lambdas = st.sampled_from([0.0, 0.3, 0.95, 1.0])


# Golden values. Three steps, rewards 1, 2, 3, values 0.5, 1, 1.5, after the last step 2; gamma 0.9, lambda 0.5.
#   delta_0 = 1 + 0.9 * 1.0 - 0.5 = 1.4     delta_1 = 2 + 0.9 * 1.5 - 1.0 = 2.35     delta_2 = 3 + 0.9 * 2.0 - 1.5 = 3.3
#   A_2 = 3.3     A_1 = 2.35 + 0.45 * 3.3 = 3.835     A_0 = 1.4 + 0.45 * 3.835 = 3.12575
# Step 1 ends its episode, whose final observation has the value 4:
#   terminated: delta_1 = 2 - 1 = 1               A_1 = 1      A_0 = 1.4 + 0.45 * 1 = 1.85
#   truncated:  delta_1 = 2 + 0.9 * 4 - 1 = 4.6   A_1 = 4.6    A_0 = 1.4 + 0.45 * 4.6 = 3.47
@pytest.mark.parametrize(("terminated", "truncated", "expected"), [
    (0, 0, (3.12575, 3.835, 3.3)), (1, 0, (1.85, 1.0, 3.3)), (0, 1, (3.47, 4.6, 3.3)), (1, 1, (1.85, 1.0, 3.3)),
])
def test_gae_by_hand(terminated: int, truncated: int, expected: tuple[float, ...]) -> None:
    terminated_t, truncated_t = flags(0, terminated, 0), flags(0, truncated, 0)
    v_t = column(0.5, 1.0, 1.5)
    v_tp1 = returns.next_values(v_t, torch.tensor([2.0]).double(), terminated_t | truncated_t, column(9.0, 4.0, 9.0))
    a_t = returns.gae(column(1, 2, 3), v_t, v_tp1, terminated_t, truncated_t, gamma=0.9, lambda_=0.5)
    torch.testing.assert_close(a_t, column(*expected))


# The same rollout without ends, two-step returns:
#   G_0 = 1 + 0.9 * 2 + 0.81 * 1.5 = 4.015     G_1 = 2 + 0.9 * 3 + 0.81 * 2 = 6.32     G_2 = 3 + 0.9 * 2 = 4.8 (short)
def test_n_step_returns_by_hand() -> None:
    none = flags(0, 0, 0)
    g_t = returns.n_step_returns(column(1, 2, 3), column(1.0, 1.5, 2.0), none, none, gamma=0.9, n=2)
    torch.testing.assert_close(g_t, column(4.015, 6.32, 4.8))


# V-trace, two steps, ratios 2 and 0.5, rewards 1 and 1, values 0 and 1, then 2; gamma 0.5, all clips 1:
#   rho = c = (1, 0.5)     delta_1 = 0.5 (1 + 0.5 * 2 - 1) = 0.5     delta_0 = 1 (1 + 0.5 * 1 - 0) = 1.5
#   vs_1 = 1 + 0.5 = 1.5     vs_0 = 0 + 1.5 + 0.5 * 1 * (1.5 - 1) = 1.75
#   A_1 = 0.5 (1 + 0.5 * 2 - 1) = 0.5     A_0 = 1 (1 + 0.5 * 1.5 - 0) = 1.75     (1.5 with the value for vs_1)
# With clip_pg_rho = 2, A_0 = 2 * 1.75 = 3.5; with clip_rho = 2 (c still 1) delta_0 = 3, vs_0 = 3.25.
@pytest.mark.parametrize(("clips", "vs", "advantage"), [
    ({}, (1.75, 1.5), (1.75, 0.5)),
    ({"clip_pg_rho": 2.0}, (1.75, 1.5), (3.5, 0.5)),
    ({"clip_rho": 2.0}, (3.25, 1.5), (1.75, 0.5)),
    ({"clip_rho": 2.0, "clip_c": 2.0}, (3.5, 1.5), (1.75, 0.5)),
])
def test_vtrace_by_hand(clips: dict[str, float], vs: tuple[float, ...], advantage: tuple[float, ...]) -> None:
    none = flags(0, 0)
    got = returns.vtrace(column(math.log(2), math.log(0.5)), column(1, 1), column(0, 1), column(1, 2), none, none,
                         gamma=0.5, **clips)
    torch.testing.assert_close(got.vs_t, column(*vs))
    torch.testing.assert_close(got.advantage_t, column(*advantage))


# 1 + 0.5 * 2 = 2, then the episode ends; 4 + 0.5 * 10 = 9.
def test_discounted_sums_by_hand() -> None:
    g_t = returns.discounted_sums(column(1, 2, 4), flags(0, 1, 0), gamma=0.5, v_last=torch.tensor([10.0]).double())
    torch.testing.assert_close(g_t, column(2, 2, 9))


def sum_of_gae(x: Rollout, t: int, n: int, gamma: float, lambda_: float) -> float:
    """The sum of the paper's equation 16, term by term, up to the episode's end."""
    total, weight = 0.0, 1.0
    for k in range(t, len(x.r_t)):
        v_next = 0.0 if x.terminated_t[k, n] else float(x.v_tp1[k, n])
        total += weight * (float(x.r_t[k, n]) + gamma * v_next - float(x.v_t[k, n]))
        weight *= gamma * lambda_
        if x.terminated_t[k, n] or x.truncated_t[k, n]:
            break
    return total


def n_step_sum(x: Rollout, t: int, n: int, gamma: float, steps: int) -> float:
    """Rewards of up to ``steps`` steps, then the value, unless the episode terminated there."""
    total, weight = 0.0, 1.0
    for k in range(t, min(t + steps, len(x.r_t))):
        total += weight * float(x.r_t[k, n])
        weight *= gamma
        if x.terminated_t[k, n]:
            return total
        if x.truncated_t[k, n]:
            break
    return total + weight * float(x.v_tp1[k, n])


def table(function: Any, x: Rollout, *args: float) -> Tensor:
    steps, envs = x.r_t.shape
    rows = [[function(x, t, n, *args) for n in range(envs)] for t in range(steps)]
    return torch.tensor(rows, dtype=torch.float64)


@given(rollouts(), gammas, lambdas)
def test_gae_is_the_sum_of_the_paper(x: Rollout, gamma: float, lambda_: float) -> None:
    a_t = returns.gae(*x.parts, gamma=gamma, lambda_=lambda_)
    torch.testing.assert_close(a_t, table(sum_of_gae, x, gamma, lambda_))


@given(rollouts(), gammas, st.integers(1, 15))
def test_n_step_returns_are_sums(x: Rollout, gamma: float, n: int) -> None:
    torch.testing.assert_close(returns.n_step_returns(*x.targets, gamma=gamma, n=n), table(n_step_sum, x, gamma, n))


def lambda_mixture(x: Rollout, t: int, n: int, gamma: float, lambda_: float) -> float:
    """Sutton and Barto's equation 12.3: n-step returns by (1 - lambda) lambda^{n-1}; the last gets the rest."""
    left = len(x.r_t) - t
    total = sum((1 - lambda_) * lambda_ ** (k - 1) * n_step_sum(x, t, n, gamma, k) for k in range(1, left))
    return total + lambda_ ** (left - 1) * n_step_sum(x, t, n, gamma, left)


@given(rollouts(), gammas, lambdas)
def test_lambda_returns_mix_n_step_returns(x: Rollout, gamma: float, lambda_: float) -> None:
    g_t = returns.lambda_returns(*x.targets, gamma=gamma, lambda_=lambda_)
    torch.testing.assert_close(g_t, table(lambda_mixture, x, gamma, lambda_))
    torch.testing.assert_close(g_t, returns.gae(*x.parts, gamma=gamma, lambda_=lambda_) + x.v_t)


@given(rollouts(), gammas)
def test_gae_with_lambda_1_is_monte_carlo_minus_the_value(x: Rollout, gamma: float) -> None:
    bootstrap = torch.where(x.truncated_t, gamma * x.v_tp1, torch.zeros_like(x.v_tp1))
    monte_carlo = returns.discounted_sums(x.r_t + bootstrap, x.terminated_t | x.truncated_t, gamma=gamma,
                                          v_last=x.v_tp1[-1])
    torch.testing.assert_close(returns.gae(*x.parts, gamma=gamma, lambda_=1.0), monte_carlo - x.v_t)


@given(rollouts(), gammas)
def test_gae_with_lambda_0_is_the_one_step_error(x: Rollout, gamma: float) -> None:
    one_step = returns.n_step_returns(*x.targets, gamma=gamma, n=1) - x.v_t
    torch.testing.assert_close(returns.gae(*x.parts, gamma=gamma, lambda_=0.0), one_step)


def vtrace_sum(x: Rollout, t: int, n: int, ratio: Tensor, gamma: float, clip_rho: float, clip_c: float) -> float:
    """Espeholt's equation 1, term by term."""
    total, weight = float(x.v_t[t, n]), 1.0
    for k in range(t, len(x.r_t)):
        v_next = 0.0 if x.terminated_t[k, n] else float(x.v_tp1[k, n])
        rho = min(clip_rho, float(ratio[k, n]))
        total += weight * rho * (float(x.r_t[k, n]) + gamma * v_next - float(x.v_t[k, n]))
        weight *= gamma * min(clip_c, float(ratio[k, n]))
        if x.terminated_t[k, n] or x.truncated_t[k, n]:
            break
    return total


clips = st.sampled_from([0.5, 1.0, 2.0, math.inf])


@given(rollouts(), gammas, clips, clips, clips, st.integers(0, 2**32 - 1))
def test_vtrace_is_the_sum_of_the_paper(
    x: Rollout, gamma: float, clip_rho: float, clip_c: float, clip_pg_rho: float, seed: int,
) -> None:
    log_ratio = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, x.r_t.shape))
    got = returns.vtrace(log_ratio, *x.parts, gamma=gamma, clip_rho=clip_rho, clip_c=clip_c, clip_pg_rho=clip_pg_rho)
    vs_t = table(vtrace_sum, x, log_ratio.exp(), gamma, clip_rho, clip_c)  # type: ignore[arg-type]  # passed on as is
    torch.testing.assert_close(got.vs_t, vs_t)
    for t in range(len(x.r_t)):
        for n in range(x.r_t.shape[1]):
            last = t == len(x.r_t) - 1 or bool(x.truncated_t[t, n])
            vs_next = 0.0 if x.terminated_t[t, n] else float(x.v_tp1[t, n] if last else vs_t[t + 1, n])
            rho = min(clip_pg_rho, math.exp(float(log_ratio[t, n])))
            expected = rho * (float(x.r_t[t, n]) + gamma * vs_next - float(x.v_t[t, n]))
            assert float(got.advantage_t[t, n]) == pytest.approx(expected, abs=1e-9)


@given(rollouts(), gammas, lambdas)
def test_vtrace_on_policy_gives_lambda_returns(x: Rollout, gamma: float, lambda_: float) -> None:
    got = returns.vtrace(torch.zeros_like(x.r_t), *x.parts, gamma=gamma, lambda_=lambda_, clip_rho=math.inf,
                         clip_c=math.inf, clip_pg_rho=math.inf)
    torch.testing.assert_close(got.vs_t, returns.lambda_returns(*x.targets, gamma=gamma, lambda_=lambda_))


@given(rollouts(), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_numba_and_torch_agree_to_the_last_bit(x: Rollout, dtype: torch.dtype, turned: bool) -> None:
    x_t, decay_t, last = x.r_t.to(dtype), x.v_t.to(dtype) / 10, x.v_tp1[-1].to(dtype)
    if turned:  # the same numbers, not contiguous
        x_t = x_t.t().contiguous().t()
    assert torch.equal(returns.backward_scan(x_t, decay_t, last), returns.scan_in_torch(x_t, decay_t, last))


@given(rollouts(), gammas, lambdas)
@settings(max_examples=30)
def test_float32_is_near_float64(x: Rollout, gamma: float, lambda_: float) -> None:
    exact = returns.gae(*x.parts, gamma=gamma, lambda_=lambda_)
    single = returns.gae(x.r_t.float(), x.v_t.float(), x.v_tp1.float(), x.terminated_t, x.truncated_t,
                         gamma=gamma, lambda_=lambda_)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-3)


@given(rollouts())
def test_what_follows_a_termination_is_not_looked_at(x: Rollout) -> None:
    poisoned = x.v_tp1.masked_fill(x.terminated_t, math.nan)
    clean = returns.gae(*x.parts, gamma=0.9, lambda_=0.9)
    again = returns.gae(x.r_t, x.v_t, poisoned, x.terminated_t, x.truncated_t, gamma=0.9, lambda_=0.9)
    assert torch.equal(again, clean)
    vtrace = returns.vtrace(torch.zeros_like(x.r_t), x.r_t, x.v_t, poisoned, x.terminated_t, x.truncated_t, gamma=0.9)
    assert bool(vtrace.advantage_t.isfinite().all())
    targets = returns.n_step_returns(x.r_t, poisoned, x.terminated_t, x.truncated_t, gamma=0.9, n=3)
    assert bool(targets.isfinite().all())


def test_returns_carry_no_gradient() -> None:
    v_t = column(1, 2).requires_grad_()
    none = flags(0, 0)
    assert not returns.gae(column(1, 1), v_t, v_t, none, none, gamma=0.9, lambda_=0.9).requires_grad
    assert not returns.vtrace(v_t, v_t, v_t, v_t, none, none, gamma=0.9).vs_t.requires_grad


def test_shapes_that_would_broadcast_are_refused() -> None:
    square, none = torch.zeros(3, 3), torch.zeros(3, 3, dtype=torch.bool)
    with pytest.raises(UsageError, match="r_t and v_t differ in shape"):
        returns.gae(square, torch.zeros(3, 1), square, none, none, gamma=0.9, lambda_=0.9)
    with pytest.raises(UsageError, match="v_last has a wrong shape"):
        returns.next_values(square, torch.zeros(3, 1), none, square)
    with pytest.raises(UsageError, match="at least one step"):
        returns.discounted_sums(torch.zeros(0, 2), torch.zeros(0, 2, dtype=torch.bool), gamma=0.9)
    with pytest.raises(UsageError, match="n >= 1"):
        returns.n_step_returns(square, square, none, none, gamma=0.9, n=0)
