"""Optimisers over rows, against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trials.fused.jobs import OPTIMIZERS
from tests.trials.fused.optim import torchs
from velodrome.trials.fused.row_optimizers import RowOptimizer

PARAMS = [
    {"lr": 0.1, "momentum": 0.9, "decay": 0.1, "clip": 0.5}, {"lr": 0.01, "momentum": 0.0, "beta1": 0.5},
    {"lr": 0.03, "alpha": 0.5, "schedule": lambda done: 1.0 - done},
]


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_torch(name: str, is_compiled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    gradients = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    specs = [OPTIMIZERS[name](params) for params in PARAMS]
    rows = start.clone()
    room = torch.empty_like(rows)
    optimizer = RowOptimizer(specs, [4] * 3, rows, room)
    optimizer._is_compiled = is_compiled
    for step, gradient in enumerate(gradients):
        room.copy_(gradient)
        optimizer.update(np.full(3, step))
    for k, spec in enumerate(specs):
        model = torch.nn.Linear(5, 1, bias=False, dtype=torch.float64)
        model.weight.data = start[k : k + 1].clone()
        theirs = torchs(spec, model.parameters())
        for step, gradient in enumerate(gradients):
            model.weight.grad = gradient[k : k + 1].clone()
            if spec.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip_norm)
            if spec.schedule is not None:
                theirs.param_groups[0]["lr"] = spec.lr * (1.0 - step / 4)
            theirs.step()
        assert torch.allclose(rows[k], model.weight[0], rtol=0.0, atol=1e-14)
