"""A training job: what to train, declared in parts, so that many trials of it can be trained as one batched model.

::

    class Digits(velo.TrainingJob):
        space = velo.Space(lr=velo.Float(1e-4, 1e-1, log=True), width=velo.Int(16, 64), batch_size=velo.Choice(32, 64))
        goal = "maximize accuracy"
        epochs = 10

        def data(self):
            return velo.Data(train=(x, y), validation=(x_val, y_val))

        def model(self, params):
            return nn.Sequential(nn.Linear(64, params["width"]), nn.ReLU(), nn.Linear(params["width"], 10))

        def loss(self, model, batch, params):
            x, y = batch
            return F.cross_entropy(model(x), y, reduction="none")

        def optimizer(self, params):
            return velo.Adam(lr=params["lr"])

        def metrics(self, model, batch):
            x, y = batch
            return {"accuracy": (model(x).argmax(1) == y).float()}

It is an ordinary loop in parts: run alone or fused with others, a trial's numbers agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from velodrome.errors import UsageError
from velodrome.trials.optimizers import SGD, Adam, AdamW, OptimizerSpec, RMSprop

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from velodrome.search.space import Space
    from velodrome.trials.context import Trial
    from velodrome.trials.data_room import DataRoom

Batch = tuple["Tensor", ...]
"""As many tensors as ``Data.train`` has, the first axis being samples."""

EVALUATION_BATCH = 512
"""How many validation samples are looked at together."""


@dataclass(frozen=True, slots=True)
class Data:
    """Tensors on the CPU whose first axis are the samples: inputs, targets, and whatever else ``loss`` wants.

    Raises:
        UsageError: If something is no tensor, or the tensors of a part differ in length.
    """

    train: tuple[Tensor, ...]
    validation: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        for name in ("train", "validation"):
            _check_part(name, getattr(self, name))

    def to(self, device: str, dtype: torch.dtype | None) -> Data:
        """The same on a device, floating-point tensors as ``dtype``."""
        def moved(part: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(item.to(device, dtype if item.is_floating_point() else None).contiguous() for item in part)

        return Data(moved(self.train), moved(self.validation))

    @property
    def num_train(self) -> int:
        """Samples to train with."""
        return len(self.train[0])

    @property
    def num_validation(self) -> int:
        """Samples to evaluate with."""
        return len(self.validation[0])


class TrainingJob:
    """The base of a job; its subclass declares ``data``, ``model``, ``loss`` and ``optimizer``, and maybe ``metrics``.

    Attributes:
        space: The search space.
        goal: Such as ``"maximize accuracy"``: one of ``metrics``, ``"loss"`` (of validation) or ``"train_loss"``.
        epochs: How long to train, in passes over the data; the metrics are reported after each.
        steps: How long to train, in optimiser steps, in place of ``epochs``.
        report_every: With ``steps``: after how many the metrics are reported.
        same_order: Whether all trials see the samples in the same order; else each has its own.
        precision: What layers compute in: ``"float32"``, or ``"bfloat16"``, with weights and losses in float32.
        checkpoint_s: How many seconds a trial goes without a checkpoint at most.
    """

    space: ClassVar[Space | None] = None
    goal: ClassVar[str | None] = None
    epochs: ClassVar[int | None] = None
    steps: ClassVar[int | None] = None
    report_every: ClassVar[int] = 100
    same_order: ClassVar[bool] = False
    precision: ClassVar[str] = "float32"
    checkpoint_s: ClassVar[float] = 60.0

    def __call__(self, trial: Trial) -> None:
        """Trains one trial by itself: a job is an objective like any other."""
        from velodrome.trials.job_objective import train_alone

        train_alone(self, trial)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to other processes: not the data."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_datasets", "_room")}

    def data(self) -> Data:
        """The data; the workers of a study on one machine share what the first of them is given."""
        raise NotImplementedError

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        """A new model. ``torch``'s generator is seeded for the trial."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Batch, params: Mapping[str, Any]) -> Tensor:
        """The loss of each sample, ``[B]`` (trials of other batch sizes then train along), or their mean, ``[]``."""
        raise NotImplementedError

    def optimizer(self, params: Mapping[str, Any]) -> OptimizerSpec:
        """What to descend with."""
        raise NotImplementedError

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Figures of a validation batch by name: one for each sample, ``[B]``, or their mean, ``[]``.

        Without any, the loss of the validation data is reported as ``loss``. ``train_loss`` is reported always.
        """
        return {}

    def dataset(self, device: str = "cpu", dtype: torch.dtype | None = None) -> Data:
        """The data on a device, asked for and moved there once; floating-point tensors of ``dtype``, if that is given.

        Raises:
            UsageError: If ``data`` returned something else.
        """
        kept: dict[Any, Data] = self.__dict__.setdefault("_datasets", {})
        if None not in kept:
            room: DataRoom | None = self.__dict__.get("_room")
            kept[None] = self._asked() if room is None else room.data(self._asked)
        if (device, dtype) not in kept:
            kept[device, dtype] = kept[None].to(device, dtype)
        return kept[device, dtype]

    def share_data(self, room: DataRoom | None) -> None:
        """Has the data kept where other processes find them."""
        self.__dict__["_room"] = room

    def _asked(self) -> Data:
        data = self.data()
        if not isinstance(data, Data):
            raise UsageError(f"{type(self).__name__}.data returned no velo.Data", given=_kinds(data),
                             allowed="velo.Data(train=(x, y), validation=(x_val, y_val))")
        return data

    def batch_size(self, params: Mapping[str, Any]) -> int:
        """Samples of a step: the parameter ``batch_size``, 32 where there is none."""
        return int(params.get("batch_size", 32))


@dataclass(frozen=True, slots=True)
class Length:
    """How long a trial trains, in optimiser steps.

    Attributes:
        batch_size: Samples of a step; the last step of an epoch has what is left.
        steps_per_epoch: Of one pass over the data.
        steps_per_report: Between two reports.
        num_reports: Of the whole training.
        fidelity: ``"epochs"`` or ``"steps"``: what reports are counted in.
    """

    batch_size: int
    steps_per_epoch: int
    steps_per_report: int
    num_reports: int
    fidelity: str

    @property
    def num_steps(self) -> int:
        """Of the whole training."""
        return self.steps_per_report * self.num_reports

    def reported(self, step: int) -> int:
        """What the report after that many steps is reported as: the epoch, from 1, or the step."""
        return step if self.fidelity == "steps" else step // self.steps_per_epoch


def length_of(job: TrainingJob, params: Mapping[str, Any], num_train: int) -> Length:
    """How long a trial of the job trains.

    Raises:
        UsageError: If the job says neither ``epochs`` nor ``steps``, or something makes no sense.
    """
    batch_size = min(_natural(job, "batch_size(params)", job.batch_size(params)), num_train)
    per_epoch = -(-num_train // batch_size)
    if (job.epochs is None) == (job.steps is None):
        raise UsageError(f"{type(job).__name__} needs either epochs or steps", given=f"{job.epochs=}, {job.steps=}",
                         allowed="one of the two", hint="for example: epochs = 10")
    if job.epochs is not None:
        return Length(batch_size, per_epoch, per_epoch, _natural(job, "epochs", job.epochs), "epochs")
    steps, every = _natural(job, "steps", job.steps), _natural(job, "report_every", job.report_every)
    every = min(every, steps)
    return Length(batch_size, per_epoch, every, -(-steps // every), "steps")


def spec_of(job: TrainingJob, params: Mapping[str, Any]) -> OptimizerSpec:
    """What a trial descends with.

    Raises:
        UsageError: If the job gives something else.
    """
    spec = job.optimizer(params)
    if not isinstance(spec, SGD | Adam | AdamW | RMSprop):
        raise UsageError(f"{type(job).__name__}.optimizer returned none", given=repr(spec)[:80],
                         allowed="velo.SGD, velo.Adam, velo.AdamW or velo.RMSprop")
    return spec


def _natural(job: TrainingJob, name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{type(job).__name__}.{name} makes no sense", given=repr(value),
                         allowed="an integer from 1")
    return value


def _check_part(name: str, part: Any) -> None:
    import torch

    if not isinstance(part, tuple) or not part or not all(isinstance(item, torch.Tensor) for item in part):
        raise UsageError(f"Data: {name} is no tuple of tensors", given=_kinds(part), allowed="such as (x, y)",
                         hint="torch.from_numpy makes a tensor of an array")
    lengths = [len(item) if item.ndim else 0 for item in part]
    if len({*lengths}) > 1 or not lengths[0]:
        raise UsageError(f"Data: the tensors of {name} have no common length", given=", ".join(map(str, lengths)),
                         allowed="as many samples in each, at least one")


def _kinds(part: Any) -> str:
    if isinstance(part, tuple | list):
        return f"a {type(part).__name__} of {', '.join(type(item).__name__ for item in part) or 'nothing'}"
    return type(part).__name__
