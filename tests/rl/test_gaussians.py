"""Against golden values, ``torch.distributions``, numerical integrals and gradients by finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.autograd import gradcheck
from torch.distributions import Independent, Normal, kl_divergence

from velodrome.rl.gaussians import DiagonalGaussian, SquashedGaussian, log_det_tanh

seeds = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


# Mean 1, deviation 2, action 3: z = 1,
#   log density = -1/2 - log 2 - log(2 pi)/2 = -0.5 - 0.6931472 - 0.9189385 = -2.1120857
#   entropy = log 2 + (1 + log(2 pi))/2 = 0.6931472 + 1.4189385 = 2.1120857
# KL(N(1, 2) || N(0, 1)) = log(1/2) + (4 + 1)/2 - 1/2 = 1.3068528
def test_gaussian_by_hand() -> None:
    pi = DiagonalGaussian(torch.tensor([1.0]).double(), torch.tensor([2.0]).double().log())
    assert float(pi.log_prob(torch.tensor([3.0]).double())) == pytest.approx(-2.1120857, abs=1e-7)
    assert float(pi.entropy()) == pytest.approx(2.1120857, abs=1e-7)
    standard = DiagonalGaussian(torch.zeros(1).double(), torch.zeros(1).double())
    assert float(pi.kl(standard)) == pytest.approx(1.3068528, abs=1e-7)


@given(seeds, st.integers(1, 4), st.booleans())
def test_gaussian_agrees_with_torch(seed: int, size: int, per_state: bool) -> None:
    mean, log_std = random(seed, 5, size), random(seed + 1, *((5, size) if per_state else (size,)))
    mean_2, log_std_2 = random(seed + 2, 5, size), random(seed + 3, size)
    ours, other = DiagonalGaussian(mean, log_std), DiagonalGaussian(mean_2, log_std_2)
    theirs = Independent(Normal(mean, log_std.exp().expand(5, size)), 1)
    their_other = Independent(Normal(mean_2, log_std_2.exp().expand(5, size)), 1)
    action = random(seed + 4, 5, size)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    torch.testing.assert_close(ours.kl(other), kl_divergence(theirs, their_other))
    assert torch.equal(ours.mode(), mean)


@given(seeds)
def test_no_divergence_from_itself(seed: int) -> None:
    pi = SquashedGaussian(random(seed, 3, 2), random(seed + 1, 2))
    torch.testing.assert_close(pi.kl(pi), torch.zeros(3).double())
    assert bool((pi.kl(SquashedGaussian(random(seed + 2, 3, 2), random(seed + 3, 2))) > 0).all())


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.3), (-1.0, 0.7), (2.0, 0.2)])
def test_the_squashed_density_integrates_to_one(mean: float, std: float) -> None:
    """The midpoint rule over (-1, 1); what lies beyond the outermost points is below 1e-4."""
    n = 400_000
    actions = ((torch.arange(n).double() + 0.5) / n * 2 - 1).unsqueeze(1)
    pi = SquashedGaussian(torch.tensor([mean]).double().expand(n, 1), torch.tensor([std]).double().log())
    assert float(pi.log_prob(actions).exp().sum()) * 2 / n == pytest.approx(1.0, abs=1e-3)


# d tanh(u)/du = 1 - tanh(u)^2: at 0, 1; at u = log 3 / 2, tanh = 1/2, so 3/4; at u = 20, 4 e^-40 to within e^-80.
@pytest.mark.parametrize(("u", "expected"), [
    (0.0, 0.0), (math.log(3) / 2, math.log(3 / 4)), (20.0, math.log(4) - 40), (-20.0, math.log(4) - 40),
    (300.0, math.log(4) - 600),
])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_det_by_hand(u: float, expected: float, dtype: torch.dtype) -> None:
    assert float(log_det_tanh(torch.tensor(u, dtype=dtype))) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(seeds)
def test_the_two_ways_to_the_density_agree(seed: int) -> None:
    pi = SquashedGaussian(random(seed, 4, 3), random(seed + 1, 4, 3) / 4 - 1)
    action, log_prob = pi.sample_with_log_prob(Generator().manual_seed(seed))
    assert bool((action.abs() <= 1).all())
    if bool((action.abs() < 0.999).all()):
        torch.testing.assert_close(pi.log_prob(action), log_prob, rtol=1e-6, atol=1e-6)


def test_actions_at_the_edge_have_a_finite_density() -> None:
    pi = SquashedGaussian(torch.full((2, 1), 50.0), torch.zeros(1))
    action, log_prob = pi.sample_with_log_prob(Generator().manual_seed(0))
    assert action.tolist() == [[1.0], [1.0]]
    assert bool(log_prob.isfinite().all())
    assert bool(pi.log_prob(action).isfinite().all())


def test_gradients() -> None:
    mean, log_std, action = random(0, 2, 3).requires_grad_(), random(1, 3).requires_grad_(), random(2, 2, 3)
    other = DiagonalGaussian(random(3, 2, 3), random(4, 3))
    assert gradcheck(lambda m, s: DiagonalGaussian(m, s).log_prob(action), (mean, log_std))
    assert gradcheck(lambda m, s: DiagonalGaussian(m, s).entropy(), (mean, log_std))
    assert gradcheck(lambda m, s: DiagonalGaussian(m, s).kl(other), (mean, log_std))
    assert gradcheck(
        lambda m, s: SquashedGaussian(m, s).sample_with_log_prob(Generator().manual_seed(0)), (mean, log_std))
    assert gradcheck(log_det_tanh, (torch.tensor([-12.0, -1.0, 0.0, 0.5, 12.0]).double().requires_grad_(),))


def test_samples_have_the_mean_and_deviation() -> None:
    """Of 100,000 draws, the mean's standard deviation is at most 2 / 316: five of them are 0.032."""
    mean, log_std = torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.5]).log()
    draws = DiagonalGaussian(mean.expand(100_000, 2), log_std).sample(Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), mean, atol=0.032, rtol=0)
    torch.testing.assert_close(draws.std(0), log_std.exp(), atol=0.032, rtol=0)
    squashed = SquashedGaussian(mean.expand(100_000, 2), log_std).sample(Generator().manual_seed(0))
    torch.testing.assert_close(squashed, draws.tanh())


def test_a_sample_has_no_gradient_and_depends_on_its_generator_alone() -> None:
    mean = torch.zeros(3, 2, requires_grad=True)
    for pi in (DiagonalGaussian(mean, torch.zeros(2)), SquashedGaussian(mean, torch.zeros(2))):
        first = pi.sample(Generator().manual_seed(3))
        assert not first.requires_grad
        assert torch.equal(first, pi.sample(Generator().manual_seed(3)))
        assert not torch.equal(first, pi.sample(Generator().manual_seed(4)))
