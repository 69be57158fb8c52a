from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from velodrome.errors import UsageError
from velodrome.rl import losses
from velodrome.rl.distributions import Categorical

seeds = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Ratios 1.5, 0.5, 1.1 with clip range 0.2:
#   A = 2:   min(3.0, 1.2 * 2) = 2.4        A = 2:   min(1.0, 0.8 * 2) = 1.0        A = -1:  min(-1.1, -1.1) = -1.1
#   loss = -(2.4 + 1.0 - 1.1) / 3 = -0.7666667; clip fraction 2/3
#   k3 = mean(r - 1 - log r) = (0.5 - 0.4054651 - 0.5 + 0.6931472 + 0.1 - 0.0953102) / 3 = 0.0974573
def test_clipped_surrogate_by_hand() -> None:
    got = losses.clipped_surrogate(numbers(1.5, 0.5, 1.1).log(), numbers(0, 0, 0), numbers(2, 2, -1), clip_range=0.2)
    assert float(got.loss) == pytest.approx(-0.7666667, abs=1e-7)
    assert float(got.approx_kl) == pytest.approx(0.0974573, abs=1e-7)
    assert float(got.clip_fraction) == pytest.approx(2 / 3)


# The gradient by log pi is -r A / B where the unclipped term is the smaller, else 0. Of ratios 1.5 and 0.5:
#   A > 0: 1.5 is clipped (0), 0.5 is not (-0.5 A / B).      A < 0: 1.5 is not (1.5 |A| / B), 0.5 is clipped (0).
@pytest.mark.parametrize(("advantage", "expected"), [(2.0, (0.0, -0.5)), (-2.0, (1.5, 0.0))])
def test_gradient_stops_only_on_the_far_side(advantage: float, expected: tuple[float, float]) -> None:
    log_prob = numbers(1.5, 0.5).log().requires_grad_()
    losses.clipped_surrogate(log_prob, numbers(0, 0), numbers(advantage, advantage), clip_range=0.2).loss.backward()
    assert log_prob.grad is not None
    assert log_prob.grad.tolist() == pytest.approx(expected)


@given(seeds, st.floats(0.01, 0.5))
def test_clipped_surrogate_sum(seed: int, clip_range: float) -> None:
    new, old, advantage = random(seed, 7), random(seed + 1, 7), random(seed + 2, 7)
    total = 0.0
    for n, o, a in zip(new.tolist(), old.tolist(), advantage.tolist(), strict=True):
        r = math.exp(n - o)
        total -= min(r * a, min(max(r, 1 - clip_range), 1 + clip_range) * a)
    got = losses.clipped_surrogate(new, old, advantage, clip_range=clip_range)
    assert float(got.loss) == pytest.approx(total / 7)


@given(seeds)
def test_in_the_first_minibatch_the_loss_is_the_plain_policy_gradient(seed: int) -> None:
    logits, action, advantage = random(seed, 6, 3), torch.arange(6) % 3, random(seed + 1, 6)
    old = Categorical(logits).log_prob(action)
    grads = []
    for plain in (True, False):
        leaf = logits.clone().requires_grad_()
        log_prob = Categorical(leaf).log_prob(action)
        if plain:
            losses.policy_gradient(log_prob, advantage).backward()
        else:
            got = losses.clipped_surrogate(log_prob, old, advantage, clip_range=0.2)
            assert (float(got.approx_kl), float(got.clip_fraction)) == (0.0, 0.0)
            got.loss.backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads)


def test_approx_kl_estimates_the_divergence() -> None:
    """The expectation of k3 under the old policy, written out, is KL(old || new)."""
    old, new = Categorical(random(0, 5)), Categorical(random(1, 5))
    expectation = sum(float(p) * float(losses.approx_kl(log_ratio.reshape(1)))
                      for p, log_ratio in zip(old.probs, new.log_probs - old.log_probs, strict=True))
    assert expectation == pytest.approx(float(old.kl(new)))


# v = 1, 3; targets 2, 0; old values 0, 3; clip range 0.5: clipped values 0.5, 3
#   plain: (1 + 9) / 2 / 2 = 2.5        clipped: (max(1, 2.25) + 9) / 2 / 2 = 2.8125
def test_value_loss_by_hand() -> None:
    v, target, old_v = numbers(1, 3), numbers(2, 0), numbers(0, 3)
    assert float(losses.value_loss(v, target)) == pytest.approx(2.5)
    assert float(losses.value_loss(v, target, old_v=old_v, clip_range=0.5)) == pytest.approx(2.8125)
    with pytest.raises(UsageError, match="needs the old values"):
        losses.value_loss(v, target, clip_range=0.5)


@given(seeds)
def test_clipping_never_makes_the_value_loss_smaller(seed: int) -> None:
    v, target, old_v = random(seed, 5), random(seed + 1, 5), random(seed + 2, 5)
    plain = losses.value_loss(v, target)
    assert losses.value_loss(v, target, old_v=old_v, clip_range=0.3) >= plain - 1e-12
    torch.testing.assert_close(losses.value_loss(v, target, old_v=old_v, clip_range=1e9), plain)


def test_gradients() -> None:
    """At points away from the corners of min, max and clip."""
    log_prob = numbers(0.05, 0.6, -0.7, 0.1).requires_grad_()
    advantage, old = numbers(1.0, -2.0, 0.5, 3.0), numbers(0, 0, 0, 0)
    assert gradcheck(lambda x: losses.clipped_surrogate(x, old, advantage, clip_range=0.2).loss, log_prob)
    v = numbers(1.0, 3.1, -0.4, 0.2).requires_grad_()
    old_v = numbers(0.0, 3.0, -0.5, 5.0)
    assert gradcheck(lambda x: losses.value_loss(x, numbers(2, 0, 1, 1), old_v=old_v, clip_range=0.5), v)
    assert gradcheck(losses.huber, numbers(-3, -0.5, 0.2, 2).requires_grad_())


def test_targets_get_no_gradient() -> None:
    one, two, three = (random(i, 4).requires_grad_() for i in range(3))
    losses.clipped_surrogate(one, two, three, clip_range=0.2).loss.backward()
    losses.value_loss(one, two, old_v=three, clip_range=0.2).backward()
    losses.policy_gradient(one, two).backward()
    assert one.grad is not None
    assert (two.grad, three.grad) == (None, None)


@given(seeds, st.integers(2, 20))
def test_normalised_advantages(seed: int, size: int) -> None:
    got = losses.normalize_advantage(random(seed, size) * 5 + 3)
    assert float(got.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(got.std()) == pytest.approx(1.0, abs=1e-3)


def test_a_single_advantage_or_equal_ones_make_no_nan() -> None:
    assert losses.normalize_advantage(numbers(3)).tolist() == [3.0]
    assert losses.normalize_advantage(numbers(3, 3, 3)).tolist() == [0.0, 0.0, 0.0]


# Returns 1, 2, 3 (variance 2/3); errors of v = 1, 2, 2: 0, 0, 1 (variance 2/9): 1 - 1/3.
def test_explained_variance_by_hand() -> None:
    target = numbers(1, 2, 3)
    assert float(losses.explained_variance(numbers(1, 2, 2), target)) == pytest.approx(2 / 3)
    assert float(losses.explained_variance(target, target)) == 1.0
    assert float(losses.explained_variance(numbers(7, 7, 7), target)) == pytest.approx(0.0)
    assert float(losses.explained_variance(-target, target)) == pytest.approx(-3.0)
    assert math.isnan(float(losses.explained_variance(target, numbers(4, 4, 4))))


# delta = 2: 0.5^2 / 2 = 0.125; 3 is beyond: 2 (3 - 1) = 4.
def test_huber_by_hand() -> None:
    assert losses.huber(numbers(0.5, -3.0, 0.0), 2.0).tolist() == pytest.approx([0.125, 4.0, 0.0])


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(UsageError, match="v and target differ in shape"):
        losses.value_loss(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(UsageError, match="log_prob and advantage differ in shape"):
        losses.clipped_surrogate(torch.zeros(4), torch.zeros(4), torch.zeros(4, 1), clip_range=0.2)
