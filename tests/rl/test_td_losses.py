from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from velodrome.rl import td_losses

seeds = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Values 3 and 2: action 0 is off 6.5 by 3.5, action 1 off 2 by 0.
def test_errors_by_hand() -> None:
    error = td_losses.q_error(numbers(3, 2).expand(2, 2), torch.tensor([0, 1]), numbers(6.5, 2.0))
    assert error.tolist() == pytest.approx([3.5, 0.0])


@given(seeds)
def test_what_was_taken_and_what_is_allowed(seed: int) -> None:
    a_t = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, 5))
    for q in (random(seed, 5, 3), random(seed, 5, 3, 4)):
        assert torch.equal(td_losses.taken(q, a_t), torch.stack([row[a] for row, a in zip(q, a_t, strict=True)]))
    q = random(seed, 5, 3)
    assert td_losses.allowed_values(q, None) is q
    mask = torch.ones(5, 3, dtype=torch.bool).scatter(1, a_t.unsqueeze(1), False)
    allowed = td_losses.allowed_values(q, mask)
    assert torch.equal(allowed[mask], q[mask])
    assert bool((allowed.argmax(-1) != a_t).all())


# Atoms 0, 1, 2, distribution 0.2, 0.3, 0.5, reward 0.5, discount 0.5: the atoms go to 0.5, 1.0, 1.5.
#   0.5 is halfway between 0 and 1: 0.1 each; 1.0 is an atom: 0.3; 1.5: 0.25 each -> 0.1, 0.65, 0.25
# Terminated with reward 5, beyond the range: everything goes to the last atom; with reward -1, to the first.
def test_projection_by_hand() -> None:
    probs = numbers(0.2, 0.3, 0.5).expand(3, 3)
    got = td_losses.project_categorical(numbers(0.5, 5, -1), numbers(0.5, 0, 0), probs, numbers(0, 1, 2))
    torch.testing.assert_close(got, torch.stack([numbers(0.1, 0.65, 0.25), numbers(0, 0, 1), numbers(1, 0, 0)]))


def projected(r: float, discount: float, probs: list[float], atoms: list[float]) -> list[float]:
    """Algorithm 1 of Bellemare et al. 2017, with its floor and ceiling, for one transition."""
    spacing = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    m = [0.0] * len(atoms)
    for p, z in zip(probs, atoms, strict=True):
        b = (min(max(r + discount * z, atoms[0]), atoms[-1]) - atoms[0]) / spacing
        low, high = int(np.floor(b)), int(np.ceil(b))
        if low == high:
            m[low] += p
        else:
            m[low] += p * (high - b)
            m[high] += p * (b - low)
    return m


@given(seeds, st.integers(2, 11), st.sampled_from([0.0, 0.5, 0.99]))
def test_projection_is_the_algorithm_of_the_paper(seed: int, size: int, gamma: float) -> None:
    atoms = torch.linspace(-3, 2, size, dtype=torch.float64)
    r, probs = random(seed, 4), random(seed + 1, 4, size).softmax(-1)
    discount = torch.full((4,), gamma, dtype=torch.float64)
    got = td_losses.project_categorical(r, discount, probs, atoms)
    for b in range(4):
        assert got[b].tolist() == pytest.approx(projected(float(r[b]), gamma, probs[b].tolist(), atoms.tolist()))
    torch.testing.assert_close(got.sum(-1), torch.ones(4).double())


@given(seeds, st.integers(2, 60), st.sampled_from([torch.float32, torch.float64]))
def test_both_ways_to_share_agree(seed: int, size: int, dtype: torch.dtype) -> None:
    """Also where an atom lies on another, and at both ends."""
    probs = random(seed, 5, size).softmax(-1).to(dtype)
    position = (random(seed + 1, 5, size).abs() * size).clamp(max=size - 1).to(dtype)
    position[0] = position[0].round()
    position[1], position[2] = 0.0, size - 1
    torch.testing.assert_close(td_losses._by_scattering(probs, position), td_losses._by_nearness(probs, position))


def test_a_reward_of_nan_makes_its_row_nan() -> None:
    """So that the guard sees it, and names it."""
    probs = numbers(0.2, 0.3, 0.5).expand(2, 3)
    got = td_losses.project_categorical(numbers(math.nan, 0), numbers(0.5, 0.5), probs, numbers(0, 1, 2))
    assert got.isnan().any(-1).tolist() == [True, False]


@given(seeds)
def test_projection_keeps_the_mean_within_the_range(seed: int) -> None:
    """Sharing by nearness moves no mass on average, as long as nothing is clipped."""
    atoms = torch.linspace(-10, 10, 21, dtype=torch.float64)
    r, probs = random(seed, 4).clamp(-4, 4), random(seed + 1, 4, 21).softmax(-1)
    got = td_losses.project_categorical(r, torch.full((4,), 0.5).double(), probs, atoms)
    torch.testing.assert_close(got @ atoms, r + 0.5 * (probs @ atoms))
    values = td_losses.categorical_values(probs.log().unsqueeze(1), atoms)
    torch.testing.assert_close(values.squeeze(1), probs @ atoms)


# Equal logits of 4 atoms: the cross entropy with anything is log 4 = 1.3862944.
def test_categorical_loss_by_hand() -> None:
    logits = torch.zeros(1, 2, 4).double()
    target = numbers(0.1, 0.2, 0.3, 0.4).unsqueeze(0)
    assert float(td_losses.categorical_loss(logits, torch.tensor([1]), target)) == pytest.approx(1.3862944, abs=1e-7)


def test_categorical_loss_is_least_at_its_target() -> None:
    target, a_t = random(1, 3, 5).softmax(-1), torch.tensor([0, 1, 1])
    logits = random(2, 3, 2, 5).requires_grad_()
    best = target.log().unsqueeze(1).expand(3, 2, 5).clone().requires_grad_()
    td_losses.categorical_loss(best, a_t, target).sum().backward()
    assert best.grad is not None
    torch.testing.assert_close(best.grad, torch.zeros_like(best.grad))
    assert bool((td_losses.categorical_loss(logits, a_t, target) > td_losses.categorical_loss(best, a_t, target)).all())


# Quantiles 0 and 1 (tau 1/4, 3/4), targets 0.5 and 3, kappa 1:
#   theta 0: u = 0.5 (1/8), 3 (2.5), weights 1/4: (0.03125 + 0.625) / 2 = 0.328125
#   theta 1: u = -0.5 (1/8, weight 1/4), 2 (1.5, weight 3/4): (0.03125 + 1.125) / 2 = 0.578125        sum 0.90625
def test_quantile_loss_by_hand() -> None:
    theta = numbers(0, 1).view(1, 1, 2)
    loss = td_losses.quantile_loss(theta, torch.tensor([0]), numbers(0.5, 3).unsqueeze(0))
    assert float(loss) == pytest.approx(0.90625)
    assert td_losses.quantile_target(numbers(1), numbers(0.5), numbers(2, 4).unsqueeze(0)).tolist() == [[2.0, 3.0]]


def test_quantile_regression_rests_at_the_quantiles() -> None:
    """Of 0, 1, ..., 7: an eighth is below 0.5, three eighths below 2.5, ...; with a small kappa, slopes are +-tau."""
    target = torch.arange(8, dtype=torch.float64).unsqueeze(0)
    for shift, rests in ((0.0, True), (1.0, False), (-1.0, False)):
        theta = (numbers(0.5, 2.5, 4.5, 6.5) + shift).view(1, 1, 4).requires_grad_()
        td_losses.quantile_loss(theta, torch.tensor([0]), target, kappa=0.01).sum().backward()
        assert theta.grad is not None
        expected = 0.0 if rests else math.copysign(1 / 8, shift)
        torch.testing.assert_close(theta.grad.flatten(), torch.full((4,), expected).double())


def test_gradients() -> None:
    a_t, target = torch.tensor([0, 2]), random(1, 2)
    assert gradcheck(lambda q: td_losses.q_error(q, a_t, target), random(0, 2, 3).requires_grad_())
    probs = random(3, 2, 4).softmax(-1)
    assert gradcheck(lambda x: td_losses.categorical_loss(x, a_t, probs), random(2, 2, 3, 4).requires_grad_())
    assert gradcheck(lambda x: td_losses.quantile_loss(x, a_t, random(5, 2, 4)), random(4, 2, 3, 4).requires_grad_())


def test_targets_get_no_gradient() -> None:
    q = random(0, 2, 3).requires_grad_()
    one = numbers(1, 1)
    assert not td_losses.project_categorical(one, one, q, numbers(0, 1, 2)).requires_grad
    assert not td_losses.quantile_target(one, one, q).requires_grad
