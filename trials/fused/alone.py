"""A member trained by itself: an ordinary loop over an ordinary model.

This is what a group's numbers are held against, what a job runs on where it can't be fused, and what a trial goes on
with when it leaves a group.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from velodrome.errors import UsageError
from velodrome.seeding import derive
from velodrome.trials.fused.calls import check_loss, computing, loss_of, metrics_of
from velodrome.trials.fused.descent import Descent
from velodrome.trials.fused.dropout import Drawn, dropping_by
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.fused.order import Order
from velodrome.trials.optimizers import rate_at
from velodrome.trials.training_job import EVALUATION_BATCH, Batch, TrainingJob, length_of, spec_of


class Alone:
    """One member's training.

    Args:
        job: What to train.
        member: Whose parameters and seed.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: Of the model and of the data's floating-point tensors; None leaves both as they are.
    """

    def __init__(
        self, job: TrainingJob, member: Member, device: str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        self.job, self.member = job, member
        self.data = job.dataset(device, dtype)
        self.length = length_of(job, member.params, self.data.num_train)
        self.model = new_model(job, member, device, dtype)
        self.spec = spec_of(job, member.params)
        self._trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self._descent = Descent(self.spec, self._trained)
        self.num_steps = 0
        self.source = Drawn(generator_of(member, device))
        self._dropping, self._computing = dropping_by(self.source), computing(job, device)
        self._order = order_of(job, member, self.data.num_train, self.length.batch_size)
        self._samples: Tensor | None = None
        self._device = device
        self._loss_sum, self._loss_steps = torch.zeros((), dtype=torch.float64, device=device), 0

    @property
    def num_reports(self) -> int:
        """How many of the training's reports are due."""
        return self.num_steps // self.length.steps_per_report

    @property
    def is_done(self) -> bool:
        """Whether the training is at its end."""
        return self.num_steps >= self.length.num_steps

    def advance(self) -> int:
        """Trains up to the next report, and returns what that is to be reported as: the epoch, from 1, or the step."""
        every = self.length.steps_per_report
        self.step(every - self.num_steps % every)
        return self.length.reported(self.num_steps)

    def step(self, num: int = 1) -> None:
        """Trains for ``num`` optimiser steps."""
        self.model.train()
        for _ in range(num):
            if self.num_steps % self.length.steps_per_report == 0:
                self._loss_sum.zero_()
                self._loss_steps = 0
            # The loss of the next samples.
            loss = self.loss(self._next_batch())
            # Down its gradient, of which the length may be limited.
            for p in self._trained.values():
                p.grad = None
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            if self.spec.clip_norm:
                torch.nn.utils.clip_grad_norm_(self._trained.values(), self.spec.clip_norm)
            self._descent.update(rate_at(self.spec, self.num_steps, self.length.num_steps))
            self.num_steps += 1
            self._loss_sum += loss.detach()
            self._loss_steps += 1

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch, ``[]``."""
        with self._dropping, self._computing:
            loss = loss_of(self.job, self.model, batch, self.member.params)
        check_loss(self.job, loss, len(batch[0]))
        return loss.mean()

    def evaluate(self) -> dict[str, float]:
        """The metrics of the validation data, and the mean loss of the steps since the last report."""
        self.model.eval()
        sums: dict[str, Tensor] = {}
        with torch.no_grad(), self._dropping, self._computing:
            for start in range(0, self.data.num_validation, EVALUATION_BATCH):
                batch = tuple(part[start : start + EVALUATION_BATCH] for part in self.data.validation)
                found = metrics_of(self.job, self.model, batch, self.member.params)
                for name, value in found.items():
                    total = value.double().sum() if value.ndim else value.double() * len(batch[0])
                    sums[name] = sums[name] + total if name in sums else total
        figures = {name: float(total) / self.data.num_validation for name, total in sums.items()}
        if self._loss_steps:
            figures["train_loss"] = float(self._loss_sum) / self._loss_steps
        return figures

    def diverged(self) -> str:
        """What is no finite number any more, in a few words; empty where all is well."""
        if not math.isfinite(float(self._loss_sum)):
            return f"the training loss is {float(self._loss_sum)} by step {self.num_steps}"
        for name, p in self.model.named_parameters():
            if not bool(torch.isfinite(p).all()):
                return f"the weights {name} are not finite by step {self.num_steps}"
        return ""

    def state(self) -> MemberState:
        """All that changes."""
        slots = {
            slot: {name: _copy(value) for name, value in values.items()}
            for slot, values in self._descent.slots().items()
        }
        return MemberState(
            self.num_steps, {name: _copy(p) for name, p in self.model.named_parameters()},
            {name: _copy(b) for name, b in self.model.named_buffers()}, slots, self.source.generator.get_state(),
            float(self._loss_sum), self._loss_steps,
        )

    def load(self, state: MemberState) -> None:
        """Goes on from a state, of this member alone or in a group."""
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(state.parameters[name])
            for name, b in self.model.named_buffers():
                b.copy_(state.buffers[name])
        self._descent.load(state.step, state.slots)
        self.num_steps = state.step
        self.source.generator.set_state(state.dropout)
        self._loss_sum.fill_(state.loss_sum)
        self._loss_steps = state.loss_steps
        self._samples = None

    def _next_batch(self) -> Batch:
        start, stop = self._order.span(self.num_steps)
        if self._samples is None or start == 0:
            self._samples = self._order.epoch(self.num_steps // self.length.steps_per_epoch).to(self._device)
        samples = self._samples[start:stop]
        return tuple(part.index_select(0, samples) for part in self.data.train)


def new_model(job: TrainingJob, member: Member, device: str, dtype: torch.dtype | None) -> nn.Module:
    """The member's model, with the weights that its seed gives.

    Raises:
        UsageError: If the job made no module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(member.seed, "weights"))
        model = job.model(member.params)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{type(job).__name__}.model made no torch.nn.Module", given=type(model).__name__,
                         allowed="a module, such as torch.nn.Sequential(...)")
    return model.to(device, dtype)


def generator_of(member: Member, device: str) -> Generator:
    """What the member's dropout is drawn from."""
    return Generator(device).manual_seed(derive(member.seed, "dropout"))


def order_of(job: TrainingJob, member: Member, num_samples: int, batch_size: int) -> Order:
    """The member's order of samples."""
    return Order(0 if job.same_order else member.seed, num_samples, batch_size)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
