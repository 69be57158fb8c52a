"""One model's optimiser, against torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.trials.fused.jobs import OPTIMIZERS
from tests.trials.fused.optim import torchs
from velodrome.trials.fused.descent import Descent
from velodrome.trials.optimizers import OptimizerSpec

SETTINGS: list[dict[str, Any]] = [
    {"lr": 0.1}, {"lr": 0.03, "momentum": 0.9, "decay": 0.1, "alpha": 0.5, "beta1": 0.5},
]


def parameters() -> dict[str, nn.Parameter]:
    """Of two types, one of them without a dimension."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"a": (5, 3), "b": (), "c": (4,), "d": (7, 1)}
    found = {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}
    return found | {"e": nn.Parameter(torch.randn(6, generator=generator, dtype=torch.float64))}


def give_gradients(to: dict[str, nn.Parameter], step: int, *, not_to: str = "") -> None:
    generator = torch.Generator().manual_seed(step)
    for name, p in to.items():
        gradient = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        p.grad = None if name in not_to else gradient


def trained(spec: OptimizerSpec, steps: int, without: dict[int, str]) -> tuple[dict[str, nn.Parameter], Descent]:
    """Parameters after so many steps, some of which some have no gradient at."""
    ours = parameters()
    descent = Descent(spec, ours)
    for step in range(steps):
        give_gradients(ours, step, not_to=without.get(step, ""))
        descent.update(spec.lr / (1 + step))
    return ours, descent


@pytest.mark.parametrize("without", [{}, {1: "b", 2: "abcde", 3: "ab", 5: "e"}], ids=["all", "not all"])
@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "with everything"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_torch_to_the_bit(name: str, settings: dict[str, Any], without: dict[int, str]) -> None:
    spec = OPTIMIZERS[name](settings)
    ours, _ = trained(spec, 8, without)
    theirs = parameters()
    optimizer = torchs(spec, theirs.values())
    for step in range(8):
        give_gradients(theirs, step, not_to=without.get(step, ""))
        optimizer.param_groups[0]["lr"] = spec.lr / (1 + step)
        optimizer.step()
    for name, p in theirs.items():
        assert torch.equal(ours[name], p), name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_goes_on_where_another_was(name: str) -> None:
    spec = OPTIMIZERS[name](SETTINGS[1])
    through, _ = trained(spec, 8, dict.fromkeys(range(8), "c"))
    half, descent = trained(spec, 5, dict.fromkeys(range(5), "c"))
    kept = {slot: {name: value.clone() for name, value in values.items()} for slot, values in descent.slots().items()}
    assert all("c" not in values for values in kept.values())
    other = Descent(spec, half)
    other.load(5, kept)
    for step in range(5, 8):
        give_gradients(half, step, not_to="c")
        other.update(spec.lr / (1 + step))
    for name, p in through.items():
        assert torch.equal(half[name], p), name
