"""What the trial table knows of one trial."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from velodrome.trials.retention import Saved
from velodrome.types import Failure, Metrics, Params, ParamValue, TrialState


@dataclass(slots=True)
class LiveTrial:
    """One unfinished trial in the table, or a finished one on its way to the store.

    Attributes:
        number: From 0, without gaps.
        params: Its configuration; grows in a define-by-run trial.
        attrs: The sampler's own notes.
        state: Where it is in its life.
        attempt: How often it was started.
        worker: Who runs it, or ran it last.
        device: Where.
        step: The last step it reported.
        metrics: The last value of each metric it reported; of a finished one the final metrics.
        values: The goal's metrics of a completed trial, or of a pruned one that has them.
        stop_reason: Why a scheduler wants it stopped; empty otherwise.
        stop_step: The step of the report that it was judged by.
        pause_reason: Why a scheduler wants it paused, or has it paused; empty otherwise.
        pause_step: The step of the report that it was judged by.
        origin: Of a trial that began from another's checkpoint: which one (``lending.Fork.origin``).
        losses: How often its worker died since it came further than ever: to a checkpoint of a later step.
        lost_step: The step of that checkpoint; -1 where there was none.
        errors: How often its objective failed.
        hangs: How often it was ended because nothing was heard of it.
        batch_divisor: By how much its batches are divided, since it ran out of memory: 1, 2, 4, ...
        failure: Why it failed last.
        reason: Why it is in this state, in a sentence, where there is more to say than the state.
        checkpoints: What it can go on from, oldest first.
    """

    number: int
    params: Params
    attrs: dict[str, ParamValue]
    state: TrialState = TrialState.WAITING
    attempt: int = 0
    worker: str = ""
    device: str = ""
    step: int | None = None
    metrics: Metrics = field(default_factory=dict)
    values: tuple[float, ...] | None = None
    stop_reason: str = ""
    stop_step: int | None = None
    pause_reason: str = ""
    pause_step: int | None = None
    origin: dict[str, Any] | None = None
    losses: int = 0
    lost_step: int = -1
    errors: int = 0
    hangs: int = 0
    batch_divisor: int = 1
    failure: Failure | None = None
    reason: str = ""
    checkpoints: tuple[Saved, ...] = ()

    def go_back(self) -> int | None:
        """It is as it was at its last checkpoint, whose step this returns, or at its beginning.

        A verdict on what it reported after that is void.
        """
        saved = self.checkpoints[-1] if self.checkpoints else None
        step = saved.step if saved else None
        if step is None or self.stop_step is None or self.stop_step > step:
            self.stop_reason, self.stop_step = "", None
        if step is None or self.pause_step is None or self.pause_step > step:
            self.pause_reason, self.pause_step = "", None
        self.step, self.metrics = (saved.last_step, dict(saved.metrics)) if saved else (None, {})
        return step
