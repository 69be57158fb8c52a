"""Random architectures, optimisers and sizes: the numbers in a group are those alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trials.fused.jobs import Classes, members
from tests.trials.fused.test_equivalence import check
from velodrome.trials.training_job import Batch

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.LeakyReLU, nn.ELU)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Built(Classes):
    """A stack of blocks by a plan; each takes and gives ``[B, width, 4]``."""

    shape = (2, 4)
    num_train, num_validation = 22, 9

    def __init__(self, plan: list[tuple[str, int]], loss: str) -> None:
        self.plan, self.loss_name = plan, loss

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        width = params["width"]
        blocks: list[nn.Module] = [nn.Conv1d(2, width, 1)]
        for kind, choice in self.plan:
            act = ACTIVATIONS[choice % len(ACTIVATIONS)]()
            match kind:
                case "conv":
                    blocks += [nn.Conv1d(width, width, 3, padding=1), act]
                case "linear":
                    blocks += [Residual(nn.Sequential(nn.Linear(4, 4), act))]
                case "norm":
                    blocks += [nn.BatchNorm1d(width, affine=bool(choice % 2))]
                case "layer":
                    blocks += [nn.LayerNorm(4), act]
                case "drop":
                    blocks += [nn.Dropout(params["drop"]) if choice % 2 else nn.Dropout1d(params["drop"])]
                case "rnn":
                    blocks += [Recurring((nn.LSTM, nn.GRU, nn.RNN)[choice % 3](4, 4, batch_first=True))]
                case "pool":
                    blocks += [nn.MaxPool1d(3, 1, 1) if choice % 2 else nn.AvgPool1d(3, 1, 1)]
        return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4 * width, 4))

    def loss(self, model: nn.Module, batch: Batch, params: Mapping[str, Any]) -> Tensor:
        x, y = batch
        out = model(x)
        if self.loss_name == "squares":
            return F.mse_loss(out, F.one_hot(y, 4).to(out.dtype), reduction="none").mean(1)
        return F.cross_entropy(out, y, reduction="none")


class Recurring(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)[0]
        return out


KINDS = ("conv", "linear", "norm", "layer", "drop", "rnn", "pool")


@settings(max_examples=10)
@given(
    plan=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5)), max_size=4),
    loss=st.sampled_from(["squares", "classes"]), widths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    sizes=st.lists(st.integers(4, 11), min_size=1, max_size=2), optimizer=st.sampled_from(["sgd", "nesterov"]),
    clip=st.sampled_from([0.0, 0.5]),
)
def test_any_architecture(
    plan: list[tuple[str, int]], loss: str, widths: list[int], sizes: list[int], optimizer: str, clip: float
) -> None:
    those = members(3, width=widths, batch_size=sizes, drop=[0.1, 0.4], optimizer=optimizer, clip=clip, momentum=0.5)
    check(Built(plan, loss), those, steps=5)


