"""Layers of all kinds, a few steps of each: ``partition`` lets them be fused, and the numbers are those alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import velodrome as velo
from tests.trials.fused.jobs import Classes, members
from tests.trials.fused.test_equivalence import check
from velodrome.trials.fused.partition import partition


class Layers(Classes):
    """A model by a function of a width; the samples are images."""

    shape = (1, 6, 6)

    def __init__(self, make: Callable[[int], nn.Module]) -> None:
        self._make = make

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return self._make(params["width"])


class Words(Layers):
    """The samples are words by number, and so are the classes."""

    num_classes = 11

    def data(self) -> velo.Data:
        x, y = super().data().train
        words = (x[:, 0, 0, :5] * 3).long().remainder(11)
        return velo.Data(train=(words[:40], y[:40]), validation=(words[40:], y[40:]))


class Tagger(nn.Module):
    """Means of embeddings; the last layer may have their weights."""

    def __init__(self, width: int, padding: int | None = None, *, is_tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, width, padding)
        self.mix = nn.Linear(width, width)
        self.head = nn.Linear(width, 11, bias=False)
        if is_tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.mix(self.embed(x).mean(1))))
        return out


class Scale(nn.Module):
    """Parameters of its own: a number, one that is not used, one that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.ones(()))
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.full((4,), 2.0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by * self.frozen


def flat(*layers: nn.Module, num: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(num, 4))


CASES: dict[str, tuple[Layers, list[int]]] = {
    "embedding": (Words(Tagger), [3, 5]),
    "embedding with padding": (Words(lambda width: Tagger(width, 0)), [3, 5]),
    "tied weights": (Words(lambda width: Tagger(width, is_tied=True)), [5]),
    "own parameters": (Layers(lambda width: nn.Sequential(flat(num=36), Scale())), [4]),
    "group normalisation": (Layers(lambda _: flat(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(), num=64)), [4]),
    "by depth": (Layers(lambda _: flat(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4), num=16)), [4]),
    "transposed": (
        Layers(lambda _: flat(nn.ConvTranspose2d(1, 2, 3), nn.InstanceNorm2d(2, affine=True), nn.AvgPool2d(4), num=8)),
        [4],
    ),
    "softmax before a view": (
        Layers(lambda _: flat(nn.Upsample(scale_factor=2), nn.AvgPool2d(6), nn.Softmax(3), nn.Conv2d(1, 2, 1), num=8)),
        [4],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_layers(case: str) -> None:
    job, widths = CASES[case]
    those = members(4, width=widths, optimizer="nesterov")
    assert [group.reason for group in partition(job, those)] == [""]
    check(job, those, steps=4)
