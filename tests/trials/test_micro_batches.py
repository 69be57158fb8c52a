"""Batches in parts: the gradients sum up to that of the whole batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from velodrome.trials.micro_batches import micro_batches


@given(st.integers(0, 40), st.integers(1, 64))
def test_parts_are_the_whole_in_order_and_as_even_as_can_be(length: int, divisor: int) -> None:
    parts = list(micro_batches(divisor, (list(range(length)),)))
    assert [item for _, part in parts for item in part] == list(range(length))
    assert len(parts) == max(1, min(divisor, length))
    sizes = [len(part) for _, part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sum(share for share, _ in parts) == pytest.approx(1.0)


@pytest.mark.parametrize("divisor", [1, 2, 4, 64])
def test_the_gradient_is_that_of_the_batch(divisor: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(10, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    weight = torch.randn(3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    (x @ weight - y).square().mean().backward()
    assert weight.grad is not None
    whole, weight.grad = weight.grad, None
    for share, a, b in micro_batches(divisor, (x, y)):
        (share * (a @ weight - b).square().mean()).backward()
    torch.testing.assert_close(weight.grad, whole, rtol=1e-12, atol=1e-14)


def test_batches_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"one length are wanted, not \[3, 2\]"):
        list(micro_batches(2, ([1, 2, 3], [1, 2])))
    with pytest.raises(ValueError, match="one length"):
        list(micro_batches(2, ()))
