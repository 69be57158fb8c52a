"""Small training jobs, of all kinds of models that are to be fused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import velodrome as velo
from velodrome.trials.fused.member import Member
from velodrome.trials.training_job import Batch

OPTIMIZERS = {
    "sgd": lambda p: velo.SGD(lr=p["lr"], momentum=p.get("momentum", 0.0), weight_decay=p.get("decay", 0.0),
                              schedule=p.get("schedule"), clip_norm=p.get("clip", 0.0)),
    "nesterov": lambda p: velo.SGD(lr=p["lr"], momentum=0.9, nesterov=True),
    "adam": lambda p: velo.Adam(lr=p["lr"], weight_decay=p.get("decay", 0.0), schedule=p.get("schedule"),
                                clip_norm=p.get("clip", 0.0), beta1=p.get("beta1", 0.9)),
    "adamw": lambda p: velo.AdamW(lr=p["lr"], weight_decay=p.get("decay", 0.01), schedule=p.get("schedule")),
    "rmsprop": lambda p: velo.RMSprop(lr=p["lr"], alpha=p.get("alpha", 0.99), momentum=p.get("momentum", 0.0)),
}


class Classes(velo.TrainingJob):
    """Classification of random numbers; subclasses say of what shape and by which model."""

    epochs = 1000
    shape: tuple[int, ...] = (6,)
    num_train, num_validation, num_classes = 50, 30, 4

    def data(self) -> velo.Data:
        generator = torch.Generator().manual_seed(1)
        parts = []
        for num in (self.num_train, self.num_validation):
            x = torch.randn(num, *self.shape, generator=generator)
            parts.append((x, torch.randint(self.num_classes, (num,), generator=generator)))
        return velo.Data(*parts)

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Batch, params: Mapping[str, Any]) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x), y, reduction="none")

    def optimizer(self, params: Mapping[str, Any]) -> Any:
        return OPTIMIZERS[params.get("optimizer", "adam")](params)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        x, y = batch
        out = model(x)
        return {"accuracy": (out.argmax(1) == y).float(), "spread": out.std()}

    def batch_size(self, params: Mapping[str, Any]) -> int:
        return int(params.get("batch_size", 16))


class MLP(Classes):
    """Two hidden layers, an activation by name, dropout."""

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        width, act = params.get("width", 8), {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}
        activation = act[params.get("activation", "relu")]
        layers: list[nn.Module] = [nn.Linear(6, width, bias=params.get("norm") != "batch")]
        if params.get("norm"):
            layers.append(nn.LayerNorm(width) if params["norm"] == "layer" else nn.BatchNorm1d(width))
        layers += [activation(), nn.Dropout(params["drop"]) if "drop" in params else nn.Identity()]
        layers += [nn.Linear(width, width + 2), activation(), nn.Linear(width + 2, 4)]
        return nn.Sequential(*layers)


class Smoothed(MLP):
    """A label smoothing and a weight of the loss by parameters."""

    def loss(self, model: nn.Module, batch: Batch, params: Mapping[str, Any]) -> Tensor:
        x, y = batch
        out = model(x)
        losses = F.cross_entropy(out, y, reduction="none", label_smoothing=params["smoothing"])
        return params["weight"] * losses + 0.01 * out.square().mean(1)


class Whole(MLP):
    """One loss for the whole batch, and no metrics."""

    def loss(self, model: nn.Module, batch: Batch, params: Mapping[str, Any]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {}


class CNN(Classes):
    """Convolutions with batch normalisation.

    Without biases, of which the gradient would be rounding alone: Adam makes steps of that, and other ones each time.
    """

    shape = (1, 6, 6)

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        width = params.get("width", 4)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Dropout2d(params.get("drop", 0.1)), nn.Flatten(), nn.Linear(9 * width, 4),
        )


class Attention(nn.Module):
    def __init__(self, heads: int, drop: float) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.register_buffer("places", torch.linspace(-1, 1, 5).unsqueeze(1).repeat(1, 8))
        layer = nn.TransformerEncoderLayer(8, heads, 16, drop, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(self.embed(x) + self.places).mean(1))
        return out


class Transformer(Classes):
    shape = (5, 3)

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return Attention(params.get("heads", 2), params.get("drop", 0.1))


class Sequence(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], width: int, levels: int, both_ways: bool) -> None:
        super().__init__()
        self.rnn = kind(3, width, levels, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(width * (2 if both_ways else 1), 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(x)[0][:, -1])
        return out


class Recurrent(Classes):
    shape = (5, 3)

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[params.get("kind", "lstm")]
        return Sequence(kind, params.get("width", 5), params.get("levels", 1), params.get("both_ways", False))


def members(num: int, **params: Any) -> list[Member]:
    """Members with learning rates of their own; of a list of values each takes the next."""
    return [
        Member(k, {
            "lr": 0.003 * 1.3**k,
            **{name: value[k % len(value)] if isinstance(value, list) else value for name, value in params.items()},
        }, 100 + k)
        for k in range(num)
    ]
