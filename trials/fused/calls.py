"""A job's loss and metrics of a batch, called in its precision and checked: by whoever trains, alone or as a group.

In bfloat16 matrix products and convolutions compute with 8 bits of mantissa; weights, gradients, normalisations, losses
and optimisers stay in float32 (mixed precision without loss scaling: Kalamkar et al. 2019, "A Study of BFLOAT16").
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from velodrome.errors import UsageError, nearest
from velodrome.trials.training_job import Batch, TrainingJob

PRECISIONS = ("float32", "bfloat16")


def computing(job: TrainingJob, device: str) -> contextlib.AbstractContextManager[Any]:
    """While it lasts, layers compute in the job's precision; can be entered again.

    Raises:
        UsageError: If there is no such precision.
    """
    if job.precision not in PRECISIONS:
        raise UsageError(f"{type(job).__name__}.precision makes no sense", given=repr(job.precision),
                         allowed=" or ".join(PRECISIONS), hint=nearest(str(job.precision), PRECISIONS))
    if job.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def loss_of(job: TrainingJob, model: nn.Module, batch: Batch, params: Mapping[str, Any]) -> Tensor:
    """What the job returns, in float32 at least; the caller has entered its precision."""
    loss = job.loss(model, batch, params)
    return loss.float() if isinstance(loss, Tensor) and loss.dtype is torch.bfloat16 else loss


def check_loss(job: TrainingJob, loss: Any, num_samples: int) -> None:
    """Raises UsageError for what is no loss of a batch."""
    if not isinstance(loss, Tensor) or loss.shape not in ((), (num_samples,)):
        given = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise UsageError(f"{type(job).__name__}.loss returned no loss", given=given,
                         allowed=f"one number for each sample, [{num_samples}], or their mean, []")


def metrics_of(job: TrainingJob, model: nn.Module, batch: Batch, params: Mapping[str, Any]) -> dict[str, Tensor]:
    """The job's figures of a batch; its loss where it declares none.

    Raises:
        UsageError: If a figure has neither one number for each sample nor one for all.
    """
    found = job.metrics(model, batch) or {"loss": loss_of(job, model, batch, params)}
    for name, value in found.items():
        if not isinstance(value, Tensor) or value.shape not in ((), (len(batch[0]),)):
            given = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UsageError(f"{type(job).__name__}.metrics: {name} is no figure of a batch", given=given,
                             allowed=f"one number for each sample, [{len(batch[0])}], or their mean, []")
    return found
