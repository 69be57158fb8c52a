"""torch's own optimisers, to compare with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from velodrome.trials.optimizers import SGD, Adam, AdamW, OptimizerSpec, RMSprop


def torchs(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """What a specification stands for."""
    common: dict[str, Any] = {"lr": spec.lr, "weight_decay": spec.weight_decay}
    match spec:
        case SGD():
            return torch.optim.SGD(parameters, momentum=spec.momentum, nesterov=spec.nesterov, fused=True, **common)
        case Adam() | AdamW():
            kind = torch.optim.Adam if type(spec) is Adam else torch.optim.AdamW
            return kind(parameters, betas=(spec.beta1, spec.beta2), eps=spec.eps, fused=True, **common)
        case RMSprop():
            return torch.optim.RMSprop(
                parameters, alpha=spec.alpha, eps=spec.eps, momentum=spec.momentum, foreach=True, **common
            )
