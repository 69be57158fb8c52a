"""The network by hand against the same one made of the framework's own operations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Generator, Tensor

from velodrome.rl.renorm_mlp import RenormMlp

SIZES = [5, 8, 8, 2]


def batch(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 5, generator=Generator().manual_seed(seed)) * 3 + 1


def by_framework(net: RenormMlp, x: Tensor) -> Tensor:
    """The same in training, by autograd alone; the modules' running statistics follow."""
    last = len(net.weights) - 1
    for i, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        x = net.norms[i](x) @ weight.t() + bias
        x = x.relu() if i < last else x
    return x


@pytest.mark.parametrize("warmup", [0, 100])
def test_output_gradients_and_running_statistics(warmup: int) -> None:
    ours = RenormMlp(SIZES, warmup=warmup, generator=Generator().manual_seed(1))
    for norm in ours.norms:
        torch.nn.init.normal_(norm.scale, 1.0, 0.3, generator=Generator().manual_seed(2))
        torch.nn.init.normal_(norm.shift, generator=Generator().manual_seed(3))
    theirs = copy.deepcopy(ours)
    for step in range(4):
        x, x_too = (batch(16, step).requires_grad_() for _ in range(2))
        weights = torch.randn(16, 2, generator=Generator().manual_seed(9))
        got, expected = ours(x), by_framework(theirs, x_too)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        (got * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(x.grad, x_too.grad, rtol=1e-3, atol=1e-4)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-3, msg=name)
    for (name, a), b in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def test_frozen_gradients_reach_the_input_alone() -> None:
    net = RenormMlp(SIZES, generator=Generator().manual_seed(1))
    net(batch(64, 0))
    net.eval()
    x, x_too = (batch(6, 1).requires_grad_() for _ in range(2))
    got, expected = net(x, frozen=True), x_too
    for i, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        expected = net.norms[i](expected) @ weight.t() + bias
        expected = expected.relu() if i < 2 else expected
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    got.square().sum().backward()
    assert all(p.grad is None for p in net.parameters())
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, x_too.grad, rtol=1e-3, atol=1e-4)


def test_evaluation_changes_no_statistics_and_training_does() -> None:
    net = RenormMlp(SIZES, generator=Generator().manual_seed(1))
    before = [part.clone() for part in net.buffers()]
    net.eval()(batch(6, 1))
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))
    net.train()(batch(6, 1))
    assert not any(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))


def test_a_late_backward_raises_and_gives_no_wrong_gradient() -> None:
    net = RenormMlp(SIZES)
    first = net(batch(3, 0)).sum()
    net(batch(3, 1))
    with pytest.raises(RuntimeError, match="before that"):
        first.backward()
