"""One trial of a study, as its user sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from velodrome.records import TrialRow
from velodrome.search.space import Space
from velodrome.types import Failure, Metrics, Params, TrialState

if TYPE_CHECKING:
    from torch import nn


class OfStudy(Protocol):
    """What a trial asks its study for."""

    @property
    def space(self) -> Space:
        """The search space."""

    def checkpoint(self, trial: int) -> Any:
        """What the trial kept last."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial of a study, as it stood when it was read.

    Attributes:
        number: From 0.
        state: ``waiting``, ``running``, ``paused``, ``completed``, ``pruned`` or ``failed``.
        value: The goal's metric; None where there is none.
        params: Its configuration.
        metrics: Its final metrics.
        seed: Its own seed.
        attempt: How often it was started.
        duration_s: From its last start to its end; None while it is not finished.
        failure: Why it failed last, if it did.
        reason: Why it is in its state, where there is more to say.
        worker: Who ran it.
        device: Where.
    """

    number: int
    state: TrialState
    value: float | None
    params: Params
    metrics: Metrics
    seed: int
    attempt: int
    duration_s: float | None
    failure: Failure | None
    reason: str
    worker: str
    device: str
    _study: OfStudy | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, row: TrialRow, params: Params, study: OfStudy | None = None) -> TrialResult:
        """The trial that a row of the store describes."""
        times = row.started_at, row.finished_at
        return cls(
            row.number, TrialState(row.state), row.value, params,
            {k: float("nan") if v is None else v for k, v in json.loads(row.metrics).items()},
            row.seed, row.attempt, times[1] - times[0] if times[0] and times[1] else None,
            Failure.from_json(json.loads(row.failure)) if row.failure else None,
            row.reason or "", row.worker, row.device, study,
        )

    def build(self, name: str | None = None, *, weights: bool = True) -> nn.Module:
        """The trial's architecture as a module, with the weights of its checkpoint.

        Args:
            name: Which net, where its space has several.
            weights: Whether to load them; otherwise they are drawn anew.

        Raises:
            NotFoundError: If the trial kept no checkpoint.
            UsageError: If the space has no such net, or the checkpoint no weights that fit.
        """
        from velodrome.search.arch.weights import load_weights

        assert self._study is not None
        net = self._study.space.build(self.params, name)
        if weights:
            load_weights(net, self._study.checkpoint(self.number), f"trial {self.number}")
        return net
