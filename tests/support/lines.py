"""A training job that is over in no time: a network that learns a line; its parameters make it fail in every way."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import velodrome as velo


class Lines(velo.TrainingJob):
    """Parameters: ``lr``, ``width``, ``batch_size``; ``bad`` names the part that raises, where it is not empty."""

    space = velo.Space(lr=velo.Float(0.01, 0.1), width=velo.Int(6, 9), batch_size=velo.Choice(8, 12))
    goal = "minimize error"
    epochs = 4

    def data(self) -> velo.Data:
        x = torch.linspace(-1, 1, 32).unsqueeze(1)
        return velo.Data(train=(x, 2 * x + 1), validation=(x, 2 * x + 1))

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        match params.get("bad"):
            case "model":
                raise ValueError("no such model")
            case "exit":
                os._exit(7)
            case "sleep":
                time.sleep(600)
        if "print" in params:
            print(params["print"])
        if params.get("own"):
            return Own(params["width"])
        return nn.Sequential(nn.Linear(1, params["width"]), nn.Tanh(), nn.Linear(params["width"], 1))

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...], params: Mapping[str, Any]) -> Tensor:
        if params.get("bad") == "loss":
            raise ValueError("no such loss")
        if params.get("slow"):
            time.sleep(0.01)
        x, y = batch
        return (model(x) - y).square().mean(1)

    def optimizer(self, params: Mapping[str, Any]) -> Any:
        return velo.SGD(lr=params["lr"], momentum=0.9)

    def metrics(self, model: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y = batch
        return {"error": (model(x) - y).abs().mean(1)}


class Own(nn.Module):
    """A model that looks at its own values, so that it can't be one of several in a batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, width), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) if x.sum().item() < 1e9 else x
