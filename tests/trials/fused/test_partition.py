"""Who can train with whom, and who can't with anybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.trials.fused.jobs import CNN, MLP, Classes, Recurrent, Smoothed, Transformer, Whole, members
from velodrome.trials.fused.partition import partition
from velodrome.trials.training_job import Batch, TrainingJob


def numbers(job: TrainingJob, **params: Any) -> list[list[int]]:
    """The members of each group; all can be fused."""
    groups = partition(job, members(4, **params))
    assert all(not group.reason for group in groups), groups
    return [[member.number for member in group.members] for group in groups]


@pytest.mark.parametrize(("job", "params"), [
    (MLP(), {"drop": [0.1, 0.5], "decay": [0.0, 0.1], "width": [4, 8]}),
    (MLP(), {"batch_size": [16, 25], "norm": "batch"}),
    (MLP(), {"width": [4, 8], "norm": "layer", "activation": "sigmoid"}),
    (Smoothed(), {"smoothing": [0.0, 0.1], "weight": [1.0, 2.0]}),
    (CNN(), {"width": [4, 6]}),
    (Transformer(), {"drop": [0.2, 0.1]}),
])
def test_what_may_differ(job: TrainingJob, params: dict[str, Any]) -> None:
    assert numbers(job, **params) == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("job", "params"), [
    (MLP(), {"optimizer": ["adam", "sgd"]}),
    (MLP(), {"activation": ["relu", "tanh"]}),
    (MLP(), {"batch_size": [8, 16]}),
    (MLP(), {"width": [4, 40]}),
    (Whole(), {"batch_size": [16, 8]}),
    (Transformer(), {"heads": [1, 2]}),
    (Transformer(), {"drop": [0.0, 0.1]}),
    (Recurrent(), {"width": [4, 5]}),
    (Recurrent(), {"kind": ["lstm", "gru"]}),
])
def test_what_parts_them(job: TrainingJob, params: dict[str, Any]) -> None:
    assert numbers(job, **params) == [[0, 2], [1, 3]]


class Layer(nn.Module):
    """A linear layer whose output goes through some function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inner(x))


class Odd(Classes):
    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Identity(), self._make())


@pytest.mark.parametrize(("make", "reason"), [
    (lambda: Layer(lambda x: x * x.mean().item()), "1 (Layer) takes the value out of a tensor, as .item() does"),
    (lambda: Layer(lambda x: x if x.mean() > 0 else -x), "1 (Layer) goes by the value of a tensor"),
    (lambda: Layer(lambda x: x + torch.randn_like(x)), "1 (Layer) can't be batched: vmap: called random operation"),
    (lambda: Layer(lambda x: x * torch.rand(1)), "1 (Layer) can't be batched: vmap: called random operation"),
    (lambda: Layer(lambda x: F.alpha_dropout(x, 0.5, True)), "1 (Layer) can't be batched: vmap: called random"),
])
def test_what_can_not_be_fused_says_why(make: Callable[[], nn.Module], reason: str) -> None:
    groups = partition(Odd(make), members(2))
    assert [len(group.members) for group in groups] == [2]
    assert reason in groups[0].reason


def test_a_recurrent_layer_with_dropout_between_its_levels() -> None:
    job = Odd(lambda: nn.LSTM(6, 4, num_layers=2, dropout=0.1))
    assert partition(job, members(2))[0].reason.startswith("1 (LSTM) has dropout between its levels")


class Stateful(Classes):
    """A model whose rows have to do with one another by more than a normalisation: padded batches are other ones."""

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return Layer(lambda x: x - x.mean(0))


def test_batch_sizes_are_parted_where_samples_look_at_one_another() -> None:
    assert numbers(Stateful(), batch_size=[16, 20]) == [[0, 2], [1, 3]]


class Branching(Classes):
    """A loss that goes by the value of a parameter."""

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return nn.Linear(6, 4)

    def loss(self, model: nn.Module, batch: Batch, params: Mapping[str, Any]) -> Tensor:
        losses = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return losses * 2 if params["extra"] > 0.5 else losses


def test_members_are_parted_by_a_parameter_that_the_loss_goes_by() -> None:
    assert numbers(Branching(), extra=[0.2, 0.7]) == [[0, 2], [1, 3]]
