"""Against sums over every action, golden values, ``torch.distributions`` and gradients by finite differences."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.autograd import gradcheck
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import kl_divergence

from velodrome.errors import UsageError
from velodrome.rl.distributions import Categorical, MultiBinary, MultiDiscrete

seeds = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int, scale: float = 3.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape) * scale)


def random_mask(seed: int, *shape: int) -> Tensor:
    rng = np.random.default_rng([seed, 1])
    mask = rng.random(shape) < 0.5
    np.put_along_axis(mask, rng.integers(0, shape[-1], (*shape[:-1], 1)), True, axis=-1)
    return torch.from_numpy(mask)


# Logits log 1, log 2, log 5: probabilities 1/8, 1/4, 5/8.
#   entropy = log 8 - (1/4) log 2 - (5/8) log 5 = 2.0794415 - 0.1732868 - 1.0058987 = 0.9002560
# The third action forbidden: 1/3, 2/3; entropy = log 3 - (2/3) log 2 = 1.0986123 - 0.4620981 = 0.6365142
# KL of the second to the first: log(8/3) = 0.9808293, for both probabilities are 8/3 times as large.
def test_categorical_by_hand() -> None:
    logits = torch.tensor([1.0, 2.0, 5.0]).double().log()
    every, some = Categorical(logits), Categorical(logits, torch.tensor([True, True, False]))
    assert every.probs.tolist() == pytest.approx([0.125, 0.25, 0.625])
    assert float(every.entropy()) == pytest.approx(0.9002560, abs=1e-7)
    assert some.probs.tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert float(some.entropy()) == pytest.approx(0.6365142, abs=1e-7)
    assert float(some.kl(every)) == pytest.approx(0.9808293, abs=1e-7)
    assert float(every.kl(some)) == math.inf
    assert (int(every.mode()), int(some.mode())) == (2, 1)


@given(seeds, st.integers(1, 5), st.integers(1, 7))
def test_categorical_agrees_with_torch(seed: int, batch: int, size: int) -> None:
    ours, theirs = Categorical(random(seed, batch, size)), TorchCategorical(logits=random(seed, batch, size))
    logits = random(seed + 1, batch, size)
    other, their_other = Categorical(logits), TorchCategorical(logits=logits)
    action = theirs.sample()
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    torch.testing.assert_close(ours.kl(other), kl_divergence(theirs, their_other))
    assert torch.equal(ours.mode(), theirs.logits.argmax(-1))


@given(seeds, st.integers(1, 4), st.integers(1, 6), st.sampled_from([1.0, 1e3, 1e30]))
def test_illegal_actions_are_impossible(seed: int, batch: int, size: int, scale: float) -> None:
    logits = random(seed, batch, size, scale=scale).float().requires_grad_()
    mask = random_mask(seed, batch, size)
    pi = Categorical(logits, mask)
    assert bool((pi.probs[~mask] == 0).all())
    assert bool((pi.log_probs[~mask] == -math.inf).all())
    torch.testing.assert_close(pi.probs.sum(-1), torch.ones(batch))
    assert bool(pi.entropy().isfinite().all())
    assert bool(mask.gather(-1, pi.mode().unsqueeze(-1)).all())
    generator = Generator().manual_seed(seed)
    for _ in range(20):
        assert bool(mask.gather(-1, pi.sample(generator).unsqueeze(-1)).all())
    (pi.entropy().sum() + pi.log_prob(pi.mode()).sum()).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert bool((logits.grad[~mask] == 0).all())


@given(seeds)
def test_a_mask_renormalises_what_is_left(seed: int) -> None:
    logits, mask = random(seed, 6), random_mask(seed, 6)
    left = Categorical(logits[mask])
    masked = Categorical(logits, mask)
    torch.testing.assert_close(masked.log_probs[mask], left.log_probs)
    torch.testing.assert_close(masked.entropy(), left.entropy())
    other = random(seed + 1, 6)
    torch.testing.assert_close(masked.kl(Categorical(other, mask)), left.kl(Categorical(other[mask])))


def test_nan_behind_a_mask_does_not_matter() -> None:
    logits = torch.tensor([0.0, math.nan, 0.0], requires_grad=True)
    pi = Categorical(logits, torch.tensor([True, False, True]))
    (pi.entropy() + pi.log_prob(torch.tensor(0))).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([0.5, 0.0, -0.5])


def test_masks_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match=r"forbids every action[\s\S]*row \[1\] of \[2\]"):
        Categorical(torch.zeros(2, 3), torch.tensor([[True, True, True], [False, False, False]]))
    with pytest.raises(UsageError, match="does not fit the logits"):
        Categorical(torch.zeros(2, 3), torch.ones(3, dtype=torch.bool))
    with pytest.raises(UsageError, match="does not fit the logits"):
        Categorical(torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(UsageError, match=r"6, the sum of \[2, 4\]"):
        MultiDiscrete(torch.zeros(2, 5), (2, 4))


@given(seeds, st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans())
def test_multi_discrete_is_a_categorical_over_all_combinations(seed: int, nvec: list[int], masked: bool) -> None:
    logits = random(seed, sum(nvec))
    mask = torch.cat([random_mask(seed + i, size) for i, size in enumerate(nvec)]) if masked else None
    pi = MultiDiscrete(logits, nvec, mask)
    combinations = torch.tensor(list(itertools.product(*map(range, nvec))))
    masks = None if mask is None else mask.expand(len(combinations), -1)
    log_probs = MultiDiscrete(logits.expand(len(combinations), -1), nvec, masks).log_prob(combinations)
    assert float(log_probs.exp().sum()) == pytest.approx(1.0)
    everything = Categorical(log_probs, log_probs.isfinite())
    torch.testing.assert_close(pi.entropy(), everything.entropy())
    if mask is None:
        other_logits = random(seed + 9, sum(nvec))
        other = MultiDiscrete(other_logits, nvec)
        repeated = MultiDiscrete(other_logits.expand(len(combinations), -1), nvec)
        torch.testing.assert_close(pi.kl(other), everything.kl(Categorical(repeated.log_prob(combinations))))
    torch.testing.assert_close(pi.log_prob(pi.mode()), log_probs.max())
    generator = Generator().manual_seed(seed)
    for _ in range(5):
        assert math.isfinite(float(pi.log_prob(pi.sample(generator))))


@given(seeds, st.integers(1, 4))
def test_multi_binary_agrees_with_torch(seed: int, size: int) -> None:
    ours, theirs = MultiBinary(random(seed, 3, size)), TorchBernoulli(logits=random(seed, 3, size))
    other, their_other = MultiBinary(random(seed + 1, 3, size)), TorchBernoulli(logits=random(seed + 1, 3, size))
    action = theirs.sample()
    torch.testing.assert_close(ours.log_prob(action.to(torch.int8)), theirs.log_prob(action).sum(-1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1))
    torch.testing.assert_close(ours.kl(other), kl_divergence(theirs, their_other).sum(-1))
    assert torch.equal(ours.mode(), (theirs.probs > 0.5).to(torch.int8))


def test_multi_binary_stays_finite_where_it_is_certain() -> None:
    pi = MultiBinary(torch.tensor([200.0, -200.0]))
    assert float(pi.entropy()) == pytest.approx(0.0, abs=1e-6)
    assert float(pi.log_prob(torch.tensor([1, 0]))) == pytest.approx(0.0)
    assert float(pi.log_prob(torch.tensor([0, 0]))) == pytest.approx(-200.0)


@pytest.mark.parametrize(("make", "size"), [
    (Categorical, 4),
    (lambda logits: Categorical(logits, torch.tensor([True, False, True, True])), 4),
    (lambda logits: MultiDiscrete(logits, (2, 3), torch.tensor([True, True, False, True, True])), 5),
    (MultiBinary, 3),
])
def test_gradients(make: Any, size: int) -> None:
    action = make(random(0, size)).sample(Generator().manual_seed(0))
    other = make(random(1, size))
    logits = random(2, size).requires_grad_()
    assert gradcheck(lambda x: make(x).log_prob(action), logits)
    assert gradcheck(lambda x: make(x).entropy(), logits)
    assert gradcheck(lambda x: make(x).kl(other), logits)


def frequencies(actions: Tensor, size: int) -> Tensor:
    return torch.bincount(actions, minlength=size).double() / len(actions)


def test_samples_are_as_frequent_as_they_should_be() -> None:
    """Of 100,000 draws, a frequency's standard deviation is at most 0.0016: five of them are 0.008."""
    generator, n = Generator().manual_seed(0), 100_000
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    mask = torch.tensor([True, True, False, True])
    for pi in (Categorical(logits.expand(n, 4)), Categorical(logits.expand(n, 4), mask.expand(n, 4))):
        torch.testing.assert_close(frequencies(pi.sample(generator), 4), pi.probs[0].double(), atol=0.008, rtol=0)
    both = MultiDiscrete(logits.expand(n, 4), (2, 2)).sample(generator)
    expected = Categorical(logits.view(2, 2)).probs.double()
    for i in range(2):
        torch.testing.assert_close(frequencies(both[:, i], 2), expected[i], atol=0.008, rtol=0)
    binary = MultiBinary(logits.expand(n, 4)).sample(generator)
    torch.testing.assert_close(binary.double().mean(0), logits.double().sigmoid(), atol=0.008, rtol=0)


def test_a_sample_depends_on_its_generator_alone() -> None:
    logits = torch.zeros(50, 9)
    for pi in (Categorical(logits), MultiDiscrete(logits, (4, 5)), MultiBinary(logits)):
        torch.manual_seed(1)
        first = pi.sample(Generator().manual_seed(3))
        torch.manual_seed(2)
        assert torch.equal(first, pi.sample(Generator().manual_seed(3)))
        assert not torch.equal(first, pi.sample(Generator().manual_seed(4)))
