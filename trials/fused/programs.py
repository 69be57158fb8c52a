"""The programs of a group: the losses and gradients of all its members for a batch of each, and their metrics.

One member's loss is the job's own code on the job's own model; ``vmap`` makes it that of K members and autograd its
gradient; the recorder keeps the bare operations.
"""

from __future__ import annotations

import contextlib
import copy
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from velodrome.errors import VeloError
from velodrome.trials.fused.dropout import dropping_by
from velodrome.trials.fused.functions import Given, rough, stand_ins
from velodrome.trials.fused.glance import JobModule
from velodrome.trials.fused.recorder import CantRecord, record
from velodrome.trials.fused.structure import named
from velodrome.trials.fused.tape import Program
from velodrome.trials.fused.unrolled import unroll
from velodrome.trials.training_job import TrainingJob


class CantFuse(Exception):  # noqa: N818 - it is a verdict, not an error
    """A group that can't be; the message names the module and says why."""


@dataclass(slots=True)
class Inputs:
    """What a program takes; the first axis of each tensor is members.

    Attributes:
        weights: What is trained, by name.
        fixed: Parameters that are not.
        buffers: Changed in place by the model.
        batch: Samples, ``[K, B, ...]``; for metrics without members.
        valid: What each sample counts in its member's loss, ``[K, B]``, where some only fill the batch.
        uniforms: Numbers in [0, 1) for each dropout.
        rates: Which part each dropout drops, ``[K]``.
        scales: What each multiplies with, ``[K]``.
        values: Parameters of the job that differ among members, ``[K]``, by name.
        masks: Of the layers that are normalised over a width, by the name of their weight.
    """

    weights: dict[str, Tensor]
    fixed: dict[str, Tensor]
    buffers: dict[str, Tensor]
    batch: dict[str, Tensor]
    valid: dict[str, Tensor] = field(default_factory=dict)
    uniforms: dict[str, Tensor] = field(default_factory=dict)
    rates: dict[str, Tensor] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """All of them, in order."""
        return [tensor for f in fields(self) for tensor in getattr(self, f.name).values()]

    def named(self) -> list[tuple[str, Tensor]]:
        """All of them with their places."""
        return [(f"{f.name}.{name}", t) for f in fields(self) for name, t in getattr(self, f.name).items()]

    def to_dict(self) -> dict[str, dict[str, Tensor]]:
        """All of them, by field."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Programs:
    """Records what a group computes.

    Args:
        job: Whose losses and metrics.
        model: One member's, as a pattern; the others differ from it in what ``Inputs`` has.
        common: The parameters of the job that all members share.
    """

    def __init__(self, job: TrainingJob, model: nn.Module, common: Mapping[str, Any]) -> None:
        self._job = job
        self._loss = JobModule(job, unroll(copy.deepcopy(model)))
        self._common = dict(common)
        self._kept: dict[Any, Program] = {}
        self._metric_names: list[str] = []

    def gradient(self, inputs: Inputs) -> tuple[tuple[Tensor, ...], Program]:
        """The losses ``[K]``, then the gradients by ``weights``, ``[K, ...]``; and the program for more of them.

        Programs are kept: for inputs of the same shapes as before there is nothing to record.

        Raises:
            CantFuse: If it can't be recorded.
        """
        self._loss.train()

        def gradients(*tensors: Tensor) -> list[Tensor]:
            given = _like(inputs, tensors)
            given["weights"] = {name: w.detach().requires_grad_() for name, w in given["weights"].items()}
            with torch.enable_grad():
                losses = vmap(self._member_loss)(given)
                found = torch.autograd.grad(losses.sum(), list(given["weights"].values()))
            return [losses.detach(), *found]

        return self._recorded("gradient", gradients, inputs)

    def metrics(self, inputs: Inputs) -> tuple[dict[str, Tensor], Callable[..., dict[str, Tensor]]]:
        """The sums of the metrics over a batch that all members see, ``[K]``, by name; and a function for more.

        Raises:
            CantFuse: If it can't be recorded.
        """
        self._loss.eval()
        names: list[str] = []

        def sums(*tensors: Tensor) -> list[Tensor]:
            given = _like(inputs, tensors)
            batch = given.pop("batch")
            found = vmap(lambda own: self._member_metrics({**own, "batch": batch}))(given)
            names[:] = list(found)
            return list(found.values())

        with torch.no_grad():
            found, program = self._recorded("metrics", sums, inputs)
        names = self._metric_names = names or self._metric_names
        return dict(zip(names, found, strict=True)), lambda *tensors: dict(zip(names, program(*tensors), strict=True))

    def _recorded(
        self, what: str, function: Callable[..., list[Tensor]], inputs: Inputs
    ) -> tuple[tuple[Tensor, ...], Program]:
        """The results of a function and the program for more of them, which is kept."""
        key = what, *((name, t.shape, t.stride(), t.dtype) for name, t in inputs.named())
        if key in self._kept:
            return self._kept[key](*inputs.tensors()), self._kept[key]
        results, self._kept[key] = self._record(function, inputs)
        return results, self._kept[key]

    def _record(
        self, function: Callable[..., list[Tensor]], inputs: Inputs
    ) -> tuple[tuple[Tensor, ...], Program]:
        with _where(self._loss.model) as place:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("error", message=".*batching rule")
                    return record(function, inputs.tensors())
            except VeloError:
                raise
            except Exception as error:
                raise CantFuse(f"{place()} {_why(error)}") from error

    def _member_loss(self, own: dict[str, dict[str, Tensor]]) -> Tensor:
        """The loss of one member, ``[]``."""
        valid = own["valid"].get("valid")
        with self._functions(own, valid):
            loss = self._call(own, "loss")
        if not isinstance(loss, Tensor) or loss.ndim > 1:
            raise CantRecord("has a loss that is neither one number for each sample nor their mean")
        if loss.ndim == 0 and valid is not None:
            raise CantRecord("has one loss for the whole batch, which members with other batch sizes can't share")
        if loss.ndim == 0:
            return loss
        return loss.mean() if valid is None else (loss * valid).sum()

    def _member_metrics(self, own: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """The sums of one member's metrics."""
        num = len(next(iter(own["batch"].values())))
        with self._functions(own, None):
            found = self._call(own, "metrics") or {"loss": self._call(own, "loss")}
        return {
            name: value.double().sum() if value.ndim else value.double() * num for name, value in found.items()
        }

    def _functions(self, own: dict[str, dict[str, Tensor]], valid: Tensor | None) -> dropping_by:
        source = Given(*(list(own[name].values()) for name in ("uniforms", "rates", "scales")))
        masks = {id(own["weights"].get(name, own["fixed"].get(name))): mask for name, mask in own["masks"].items()}
        layers = rough() if self._job.precision == "bfloat16" else {}
        return dropping_by(source, {**stand_ins(valid, masks), **layers})

    def _call(self, own: dict[str, dict[str, Tensor]], what: str) -> Any:
        tensors = {**own["weights"], **own["fixed"], **own["buffers"]}
        state = {f"model.{name}": tensor for name, tensor in tensors.items()}
        params = {**self._common, **own["values"]}
        return functional_call(self._loss, state, (what, tuple(own["batch"].values()), params))


@contextlib.contextmanager
def _where(model: nn.Module) -> Iterator[Callable[[], str]]:
    """While it lasts, the function it gives names the innermost module that was entered and not left."""
    names = {id(module): named(name, module) for name, module in model.named_modules()}
    entered: list[str] = []
    hooks: list[Any] = []
    for module in model.modules():
        hooks.append(module.register_forward_pre_hook(lambda m, _: entered.append(names[id(m)])))
        hooks.append(module.register_forward_hook(lambda *_: entered.pop() and None))
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield lambda: entered[-1] if entered else "the job's loss or metrics"
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()


def _like(inputs: Inputs, tensors: Sequence[Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors, in order, in the places that those of ``inputs`` have."""
    rest = iter(tensors)
    return {name: {key: next(rest) for key in part} for name, part in inputs.to_dict().items()}


def _why(error: Exception) -> str:
    """What is wrong, in a few words."""
    text = str(error)
    if isinstance(error, CantRecord):
        return text
    if ".item()" in text:
        return "takes the value out of a tensor, as .item() does"
    if "data-dependent control flow" in text:
        return "goes by the value of a tensor, as if and while do"
    if "batching rule" in text:
        found = re.search(r"aten::\w+", text)
        return f"uses {found.group() if found else 'an operation'}, which can't be batched"
    return f"can't be batched: {text.strip().partition(chr(10))[0][:200] or type(error).__name__}"
