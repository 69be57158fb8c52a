"""The optimisers of a training job: what to descend with, as values; and how the learning rate goes over the training.

::

    def optimizer(self, params):
        return velo.AdamW(lr=params["lr"], weight_decay=1e-2, schedule=velo.Cosine(warmup=0.05), clip_norm=1.0)

The arithmetic is that of the classes of the same names in ``torch.optim``. A schedule is any function of how much of
the training is done, from 0 to 1, that returns what the learning rate is multiplied with. ``clip_norm`` is the longest
gradient over all parameters (Pascanu et al. 2013), 0 for no limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from velodrome.errors import UsageError

Schedule = Callable[[float], float]
"""From the part of the training that is done, in [0, 1), to a factor of the learning rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SGD:
    """Gradient descent, with momentum or Nesterov's (Sutskever et al. 2013)."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Schedule | None = None
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        _check(self, momentum=1.0)
        if self.nesterov and not self.momentum:
            raise UsageError("Nesterov's momentum needs a momentum", given="nesterov=True, momentum=0",
                             hint="for example: velo.SGD(lr=0.1, momentum=0.9, nesterov=True)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam:
    """Kingma and Ba 2015; ``weight_decay`` adds to the gradient."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Schedule | None = None
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        _check(self, beta1=1.0, beta2=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2
    schedule: Schedule | None = None
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        _check(self, beta1=1.0, beta2=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RMSprop:
    """Hinton's lecture 6e, with momentum; ``alpha`` is how much of the squares' average stays."""

    lr: float
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Schedule | None = None
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        _check(self, alpha=1.0, momentum=1.0)


OptimizerSpec = SGD | Adam | AdamW | RMSprop


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine:
    """Half a cosine from 1 down to ``floor`` (Loshchilov and Hutter 2017), after a linear ``warmup``.

    Attributes:
        warmup: The part of the training in which the rate rises from 0.
        floor: The factor at the end.
    """

    warmup: float = 0.0
    floor: float = 0.0

    def __call__(self, done: float) -> float:
        """The factor when that part of the training is done."""
        if done < self.warmup:
            return done / self.warmup
        through = (done - self.warmup) / max(1.0 - self.warmup, 1e-12)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * min(through, 1.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A straight line from 1 down to ``floor``, after a linear ``warmup``."""

    warmup: float = 0.0
    floor: float = 0.0

    def __call__(self, done: float) -> float:
        """The factor when that part of the training is done."""
        if done < self.warmup:
            return done / self.warmup
        through = (done - self.warmup) / max(1.0 - self.warmup, 1e-12)
        return 1.0 + (self.floor - 1.0) * min(through, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDecay:
    """Times ``factor`` at each of the points ``at``."""

    at: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __call__(self, done: float) -> float:
        """The factor when that part of the training is done."""
        return self.factor ** sum(done >= point for point in self.at)


def rate_at(spec: OptimizerSpec, step: int, num_steps: int) -> float:
    """The learning rate of a step, counted from 0, in a training of ``num_steps``."""
    return spec.lr if spec.schedule is None else spec.lr * spec.schedule(min(step / num_steps, 1.0))


def _check(spec: Any, **below: float) -> None:
    """Raises UsageError for a setting that is no number, negative, or not below its bound."""
    for field in fields(spec):
        value = getattr(spec, field.name)
        if field.name in ("schedule", "nesterov"):
            continue
        bound = below.get(field.name, math.inf)
        if not isinstance(value, int | float) or not 0.0 <= value < bound:
            raise UsageError(
                f"{type(spec).__name__}: {field.name} makes no sense", given=repr(value),
                allowed=f"a number in [0, {bound:g})",
            )
    if spec.schedule is not None and not callable(spec.schedule):
        raise UsageError(
            f"{type(spec).__name__}: a schedule is a function", given=repr(spec.schedule),
            allowed="velo.Cosine(...), velo.Linear(...), velo.StepDecay(...), or any function from [0, 1) to a factor",
        )
