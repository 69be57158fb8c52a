"""A recorded computation gives what the computation gives, for other numbers too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from velodrome.trials.fused import recorder
from velodrome.trials.fused.recorder import CantRecord, record


def dense(x: Tensor, w: Tensor) -> list[Tensor]:
    """A layer, its softmax and the gradient by its weights."""
    w = w.detach().requires_grad_()
    with torch.enable_grad():
        logs = F.log_softmax(x @ w.transpose(1, 2) * 1, -1)
        gradient, = torch.autograd.grad(logs[..., 0].sum(), w)
    return [logs.detach(), gradient]


def in_place(x: Tensor, w: Tensor) -> list[Tensor]:
    """What changes an input, a view of it, and something new."""
    w[0].add_(1.0)
    made = x.new_zeros(2, 3, 5)
    made.view(-1)[3:7] += 2.0
    w.mul_(1)
    return [made + x, w * 2, made]


def of_constants(x: Tensor, w: Tensor) -> list[Tensor]:
    """What does not depend on the inputs, and what nobody asks for."""
    ramp = torch.arange(5, dtype=torch.float64) * 3 + torch.tensor(float("inf"))
    x.exp().sum()
    return [x, torch.where(ramp > 1, x, -x), ramp, torch.stack(x.unbind(0)).clone()]


def biased(x: Tensor, w: Tensor) -> list[Tensor]:
    """A layer with a bias that does not lie in one piece, views of views, and the same twice."""
    bias = (w[:, 0, :4] * 1).view(2, 1, 4)
    out = x @ w.transpose(1, 2) + bias
    back = w.transpose(1, 2).transpose(1, 2).unsqueeze(0).squeeze(0)
    return [out, bias + (x.exp() @ back.transpose(1, 2)), x.exp(), bias.expand(2, 3, 4) + out]


def biased_and_changed(x: Tensor, w: Tensor) -> list[Tensor]:
    """The same where a bias and a factor are changed between a product and the sum."""
    bias = w[:, :1, :4] * 1
    products = [x @ w.transpose(1, 2), x @ w.transpose(1, 2)]
    bias.add_(1.0)
    w.mul_(2.0)
    return [products[0] + bias, products[1] + w[:, :1, :4], x @ w.transpose(1, 2)]


@pytest.mark.parametrize("function", [dense, in_place, of_constants, biased, biased_and_changed])
def test_the_program_does_the_same(function: Callable[[Tensor, Tensor], list[Tensor]]) -> None:
    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(2, 3, 5, generator=generator, dtype=torch.float64),
                torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)]

    def same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0.0, atol=1e-12)

    first, again = inputs(0), inputs(0)
    results, program = record(function, first)
    same(results, function(*again))
    same(first, again)
    for seed in (1, 2):
        ours, theirs = inputs(seed), inputs(seed)
        same(program(*ours), function(*theirs))
        same(ours, theirs)


def test_gradients_lie_in_memory_as_the_weights_do() -> None:
    results, program = record(dense, [torch.randn(2, 3, 5), torch.randn(2, 4, 5)])
    assert not results[1].is_contiguous()
    assert program(torch.randn(2, 3, 5), torch.randn(2, 4, 5))[1].is_contiguous()


def test_a_layer_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    tapes = []
    monkeypatch.setattr(recorder, "compiled", lambda tape, *_: tapes.append(tape))
    record(biased, [torch.randn(2, 3, 5), torch.randn(2, 4, 5)])
    names = [call.function.__name__ for call in tapes[0].calls]
    assert names.count("baddbmm") == 2
    assert names.count("exp") == 1
    assert "bmm" not in names
    assert "mul" not in names


@pytest.mark.parametrize(("function", "why"), [
    (lambda x: [x * torch.rand(3)], "draws random numbers"),
    (lambda x: [x * x.sum().item()], "looks at the value"),
    (lambda x: [x if x.sum() > 0 else -x], "looks at the value"),
])
def test_what_depends_on_values_or_chance_is_refused(function: Callable[[Tensor], list[Tensor]], why: str) -> None:
    with pytest.raises(CantRecord, match=why):
        record(function, [torch.ones(3)])


def test_values_of_constants_are_no_matter() -> None:
    scale = torch.tensor(2.0)
    _, program = record(lambda x: [x * scale.item()], [torch.ones(3)])
    assert program(torch.full((3,), 5.0))[0].tolist() == [10.0] * 3
