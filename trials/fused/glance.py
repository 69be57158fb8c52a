"""A look at one member's loss for one batch, alone: what a group has to know of it, and to agree with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from velodrome.trials.fused.calls import check_loss, computing, loss_of
from velodrome.trials.fused.dropout import Drawn, Site, dropping_by
from velodrome.trials.fused.member import Member
from velodrome.trials.training_job import Batch, TrainingJob


@dataclass(frozen=True, slots=True)
class Glance:
    """What was seen.

    Attributes:
        gradients: Of the batch's mean loss, by name; parameters that the loss does not use are not among them.
        params_read: Which of its parameters the job's loss looked at.
        sites: The calls of dropout, in order.
        is_per_sample: Whether the loss has a number for each sample.
    """

    gradients: dict[str, Tensor]
    params_read: tuple[str, ...]
    sites: tuple[Site, ...]
    is_per_sample: bool


def glance(job: TrainingJob, member: Member, model: nn.Module, batch: Batch, generator: Generator) -> Glance:
    """Runs the loss forward and backward. The model's buffers change.

    Args:
        job: Whose loss.
        member: Whose parameters.
        model: The member's.
        batch: Samples of its next step.
        generator: Draws the masks of dropout.
    """
    model.train()
    source, params = Drawn(generator), _Watched(member.params)
    source.is_noting = True
    with dropping_by(source), computing(job, batch[0].device.type), torch.enable_grad():
        loss = loss_of(job, model, batch, params)
    check_loss(job, loss, len(batch[0]))
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss.mean(), list(named.values()), allow_unused=True)
    gradients = {name: g for name, g in zip(named, found, strict=True) if g is not None}
    return Glance(gradients, tuple(params.read), tuple(source.sites), loss.ndim == 1)


def sites_of(
    job: TrainingJob, member: Member, model: nn.Module, tensors: Mapping[str, Tensor], batch: Batch
) -> list[Site]:
    """The calls of dropout in the loss of a batch, in order.

    Args:
        job: Whose loss.
        member: Whose parameters.
        model: The member's, whatever its tensors are.
        tensors: Its parameters and buffers; buffers change.
        batch: Samples.
    """
    source = Drawn(Generator(batch[0].device))
    source.is_noting = True
    state = {f"model.{name}": tensor for name, tensor in tensors.items()}
    with dropping_by(source), torch.no_grad():
        functional_call(JobModule(job, model).train(), state, ("loss", batch, member.params))
    return source.sites


class JobModule(nn.Module):
    """A job's loss and metrics as a module around its model, as ``functional_call`` wants it."""

    def __init__(self, job: TrainingJob, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._job = job

    def forward(self, what: str, batch: Batch, params: Mapping[str, Any]) -> Any:
        """``loss`` or ``metrics`` of a batch."""
        with computing(self._job, batch[0].device.type):
            if what == "loss":
                return loss_of(self._job, self.model, batch, params)
            return self._job.metrics(self.model, batch)


class _Watched(Mapping[str, Any]):
    """Parameters that note which of them are looked at."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.read: dict[str, None] = {}

    def __getitem__(self, name: str) -> Any:
        self.read[name] = None
        return self._params[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)
