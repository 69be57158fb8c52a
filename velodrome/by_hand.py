"""A study run by hand: its trials are asked for and told, by a process that is its controller meanwhile."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from velodrome.errors import NotFoundError, UsageError
from velodrome.types import Failure, FailureClass, Goal, Metrics, Params

if TYPE_CHECKING:
    from velodrome.trials.controller import Controller
    from velodrome.trials.events import Event

Result = float | Sequence[float] | Mapping[str, float] | None
"""The goal's value, one per goal, or metrics by name; None where the trial has reported its goal."""


class AskedTrial:
    """A trial to be run by hand: ``params`` to try, then ``Study.tell``.

    Attributes:
        number: From 0.
        params: The configuration.
        seed: The trial's own seed.
    """

    def __init__(self, run: ByHand, number: int, params: Params, seed: int) -> None:
        self.number, self.params, self.seed = number, params, seed
        self._run = run

    def report(self, step: int, **metrics: float) -> None:
        """Reports figures at a step, as a ``Trial`` does.

        Raises:
            TypeError: If a value is no number, or the step no integer.
            ValueError: If the step is negative or too large.
        """
        from velodrome.trials.reading import read_metrics, read_step

        self._run.report(self.number, read_step(step), read_metrics(metrics))

    @property
    def should_stop(self) -> bool:
        """Whether the scheduler thinks that the trial is not worth going on with."""
        return self._run.should_stop(self.number)

    def __repr__(self) -> str:
        return f"AskedTrial(number={self.number}, params={self.params})"


class ByHand:
    """What stands behind ``Study.ask`` and ``Study.tell``; any thread may call it.

    Args:
        name: The study's name.
        goal: Its goal.
        take_control: Makes this process the study's controller; called when that is first needed.
    """

    def __init__(self, name: str, goal: Goal, take_control: Callable[[], Controller]) -> None:
        self._name, self._goal, self._take_control = name, goal, take_control
        self._controller: Controller | None = None
        self._let_go: Callable[[], object] | None = None
        self._lock = threading.RLock()

    def ask(self) -> AskedTrial:
        """A new trial."""
        from velodrome.trials import events as ev

        with self._lock:
            controller = self._control()
            if controller.table.history.is_define_by_run:
                raise UsageError(
                    f"Study {self._name!r} has no search space to take a configuration from",
                    hint=f"run its objective: velo resume {self._name}; or make a study with a space",
                )
            launch = controller.next()
            if launch is None:
                raise NotFoundError("The sampler has nothing left to suggest", given=controller.table.roster.exhausted)
            controller.happened(ev.Launched(launch.number, "asked", "cpu"))
            return AskedTrial(self, launch.number, dict(launch.params), controller.seed_of(launch.number))

    def report(self, number: int, step: int, metrics: Metrics) -> None:
        """Figures of a trial at a step."""
        from velodrome.trials import events as ev

        with self._lock:
            controller = self._control()
            controller.happened(ev.Reported(number, step, metrics))
            controller.commit(only_if_due=True)

    def should_stop(self, number: int) -> bool:
        """Whether the scheduler has given the trial up, or it is over."""
        with self._lock:
            trial = self._control().table.live.get(number)
            return trial is None or bool(trial.stop_reason)

    def tell(self, number: int, result: Result, *, failed: str, pruned: str) -> None:
        """Ends a trial: with a result, or why it has none."""
        with self._lock:
            controller = self._control()
            if number not in controller.table.live:
                raise UsageError(
                    f"Trial {number} is not waiting for a result", given=f"trial {number}",
                    allowed=f"one of {sorted(controller.table.live)}", hint="trial = study.ask() first",
                )
            reported = controller.table.live[number].metrics
            controller.happened(self._ending(number, reported, result, failed, pruned))
            controller.commit()

    def close(self) -> None:
        """Lets the study go, if this process had taken control of it."""
        with self._lock:
            if self._let_go is not None:
                self._let_go()
                self._controller = self._let_go = None

    def _ending(self, number: int, reported: Metrics, result: Result, failed: str, pruned: str) -> Event:
        from velodrome.trials import events as ev

        if failed:
            return ev.Failed(number, Failure(FailureClass.USER, failed).to_json())
        if pruned:
            return ev.Quit(number, pruned)
        metrics = _metrics(self._goal, result)
        missing = [name for name in self._goal.metrics if name not in {*reported, *metrics}]
        if missing:
            raise UsageError(
                f"Trial {number} has no result yet", given=f"no {', '.join(missing)}: {result!r}",
                allowed=f"a number for each of {', '.join(self._goal.metrics)}, here or in a report",
                hint="failed='why' or pruned='why' where there is none",
            )
        return ev.Returned(number, metrics)

    def _control(self) -> Controller:
        if self._controller is None:
            self._controller = self._take_control()
            self._let_go = weakref.finalize(self, _let_go, self._controller, os.getpid())
        return self._controller


def _let_go(controller: Controller, pid: int) -> None:
    """Ends a controller's hold on its study; not in a process that was forked off by the one that has it."""
    if os.getpid() == pid:
        try:
            controller.close("asked and told by hand", "stopped")
        finally:
            controller.release()


def _metrics(goal: Goal, result: Result) -> Metrics:
    """A told result as metrics by name."""
    from velodrome.trials.reading import read_metrics

    try:
        if result is None:
            return {}
        if isinstance(result, Mapping):
            return read_metrics(result)
        values = list(result) if isinstance(result, Sequence) else [result]
        return read_metrics(dict(zip(goal.metrics, values, strict=True)))
    except (TypeError, ValueError):
        raise UsageError(
            "A result is no result", given=repr(result),
            allowed=f"a number for each of {', '.join(goal.metrics)}, or a dict",
        ) from None
