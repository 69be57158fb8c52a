"""A member's numbers are the same in a group as alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import velodrome as velo
from tests.trials.fused.jobs import CNN, MLP, Recurrent, Smoothed, Transformer, Whole, members
from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.fused import Fused
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.training_job import Batch, TrainingJob


def difference(state: MemberState, other: MemberState) -> float:
    """The largest difference of any number of two states, relative for those above 1."""
    assert state.step == other.step
    assert state.loss_steps == other.loss_steps
    assert torch.equal(state.dropout, other.dropout)
    worst = abs(state.loss_sum - other.loss_sum) / max(1.0, abs(state.loss_sum))
    parts = [(state.parameters, other.parameters), (state.buffers, other.buffers)]
    parts += [(slot, other.slots[name]) for name, slot in state.slots.items()]
    for own, others in parts:
        assert set(own) <= set(others)
        for name, value in own.items():
            assert value.shape == others[name].shape
            apart = (value.double() - others[name].double()).abs() / value.double().abs().clamp_min(1.0)
            worst = max(worst, float(apart.max()))
    return worst


def check(job: TrainingJob, those: list[Member], steps: int = 200, dtype: torch.dtype = torch.float64,
          tolerance: float = 1e-9) -> None:
    """Trains the members in a group, and some of them alone."""
    group = Fused(job, those, dtype=dtype)
    group.step(steps)
    figures = group.evaluate()
    for member in those[:: len(those) // 3]:
        alone = Alone(job, member, dtype=dtype)
        alone.step(steps)
        assert difference(alone.state(), group.state(member.number)) < tolerance
        own = alone.evaluate()
        assert figures[member.number] == pytest.approx(own, rel=0, abs=max(tolerance, 1e-9))


CASES: dict[str, tuple[TrainingJob, dict[str, Any]]] = {
    "mlp": (MLP(), {"drop": [0.1, 0.5]}),
    "clipped and scheduled": (MLP(), {"clip": [0.0, 0.1, 1.0], "schedule": [None, velo.Cosine(warmup=0.1)]}),
    "widths": (MLP(), {"width": [3, 8, 5], "drop": 0.2}),
    "widths, sigmoid and layer norm": (MLP(), {"width": [3, 8, 5], "activation": "sigmoid", "norm": "layer"}),
    "batch sizes": (MLP(), {"batch_size": [16, 7, 50], "drop": 0.2}),
    "batch sizes, batch norm": (MLP(), {"batch_size": [16, 7], "norm": "batch", "width": [4, 6]}),
    "losses": (Smoothed(), {"smoothing": [0.0, 0.1, 0.3], "weight": [1.0, 0.5]}),
    "one loss for the batch": (Whole(), {"drop": 0.1}),
    "cnn": (CNN(), {"drop": [0.1, 0.3]}),
    # The gradient by the biases of keys is rounding alone, of which Adam makes steps, longer ones at a higher rate.
    "transformer": (Transformer(), {"drop": [0.1, 0.3], "lr": [0.001, 0.003, 0.005, 0.002]}),
    "lstm": (Recurrent(), {}),
    "gru, two levels, both ways": (Recurrent(), {"kind": "gru", "levels": 2, "both_ways": True}),
}


LONG = ("mlp", "widths", "cnn", "transformer", "lstm")


@pytest.mark.parametrize("case", CASES)
def test_fused_equals_alone(case: str) -> None:
    job, params = CASES[case]
    check(job, members(8, **params), steps=200 if case in LONG else 30)


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw", "rmsprop"])
def test_every_optimiser(optimizer: str) -> None:
    check(MLP(), members(4, optimizer=optimizer, momentum=[0.9, 0.0], decay=[0.0, 0.1], beta1=[0.9, 0.5]), steps=60)


@pytest.mark.parametrize("case", LONG)
def test_single_precision(case: str) -> None:
    job, params = CASES[case]
    # Where a gradient is rounding alone, as that by the biases of keys, Adam makes steps of it all the same.
    optimizer = "sgd" if case in ("transformer", "cnn") else "adam"
    check(job, members(8, optimizer=optimizer, **params), steps=10, dtype=torch.float32, tolerance=1e-6)


ROUGH: dict[str, tuple[TrainingJob, dict[str, Any]]] = {
    "mlp": (MLP(), {"width": [3, 8], "batch_size": [16, 7], "drop": 0.2, "norm": "layer"}),
    "cnn": (CNN(), {"drop": [0.1, 0.3]}),
    "transformer": (Transformer(), {"drop": [0.1, 0.3]}),
    "lstm": (Recurrent(), {}),
}


@pytest.mark.parametrize("case", ROUGH)
def test_half_precision(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job, params = ROUGH[case]
    monkeypatch.setattr(job, "precision", "bfloat16", raising=False)
    seen: list[torch.dtype] = []
    monkeypatch.setattr(job, "loss", lambda model, batch, params: _noting(model, batch, seen), raising=False)
    those = members(4, optimizer="sgd", **params)
    group = Fused(job, those)
    group.step(20)
    figures = group.evaluate()
    for member in those:
        alone = Alone(job, member)
        alone.step(20)
        state = group.state(member.number)
        assert {p.dtype for p in state.parameters.values()} == {torch.float32}
        assert difference(alone.state(), state) < 0.02
        assert figures[member.number] == pytest.approx(alone.evaluate(), rel=0.05, abs=0.05)
    assert {*seen} == {torch.bfloat16}


def _noting(model: torch.nn.Module, batch: Batch, seen: list[torch.dtype]) -> torch.Tensor:
    """The loss, by an output whose type is noted."""
    out = model(batch[0])
    seen.append(out.dtype)
    return torch.nn.functional.cross_entropy(out, batch[1], reduction="none")
