"""A study as its user sees it: what was asked for, its trials, its best, and any question in SQL.

Everything here reads through short read-only connections, so a study can be looked at while it runs, from any process.
``ask`` and ``tell`` run a study by hand: they make this process its controller.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from velodrome.errors import NotFoundError, UsageError
from velodrome.pareto import Point, front, hypervolume
from velodrome.records import StudyRow, TrialRow
from velodrome.search.space import Space
from velodrome.store.reader import Reader
from velodrome.types import Failure, FailureClass, Goal, Metrics, Params, TrialState

if TYPE_CHECKING:
    from torch import nn

    from velodrome.trials.controller import Controller

_T = TypeVar("_T")


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
    _study: Study | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, row: TrialRow, params: Params, study: Study | None = None) -> TrialResult:
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


class AskedTrial:
    """A trial to be run by hand: ``params`` to try, then ``Study.tell``.

    Attributes:
        number: From 0.
        params: The configuration.
        seed: The trial's own seed.
    """

    def __init__(self, study: Study, number: int, params: Params, seed: int) -> None:
        self.number, self.params, self.seed = number, params, seed
        self._study = study

    def report(self, step: int, **metrics: float) -> None:
        """Reports figures at a step, as a ``Trial`` does.

        Raises:
            TypeError: If a value is no number, or the step no integer.
            ValueError: If the step is negative or too large.
        """
        from velodrome.trials.reading import read_metrics, read_step

        self._study._report(self.number, read_step(step), read_metrics(metrics))

    @property
    def should_stop(self) -> bool:
        """Whether the scheduler thinks that the trial is not worth going on with."""
        return self._study._should_stop(self.number)

    def __repr__(self) -> str:
        return f"AskedTrial(number={self.number}, params={self.params})"


class Study:
    """A study in a store.

    Args:
        store: The store's path.
        name: The study's name.
        take_control: Makes this process the study's controller (for ``ask``); given by ``velodrome.api``.
    """

    def __init__(self, store: Path, name: str, take_control: Callable[[Study], Controller]) -> None:
        self.store, self.name = store, name
        self._take_control = take_control
        self._controller: Controller | None = None
        self._let_go: Callable[[], object] | None = None
        self._lock = threading.RLock()
        self._row = self._read(lambda reader: reader.study(name))
        self.goal = Goal.parse(self._row.goal)

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.state}, {str(self.goal)!r}, store={str(self.store)!r})"

    # --- what it is

    @property
    def row(self) -> StudyRow:
        """Its row in the store, read anew."""
        return self._read(lambda reader: reader.study(self.name))

    @property
    def state(self) -> str:
        """``running``, ``stopped``, ``finished`` or ``failed``."""
        return self.row.state

    @property
    def seed(self) -> int:
        """The seed that everything in it derives from."""
        return self._row.seed

    @property
    def space(self) -> Space:
        """Its search space; of a define-by-run study, what is known of it."""
        return Space.from_json(json.loads(self.row.space))

    # --- its results

    @property
    def trials(self) -> list[TrialResult]:
        """All its trials by number."""

        def read(reader: Reader) -> list[TrialResult]:
            params = reader.all_params(self._row.id)
            return [TrialResult.of(row, params.get(row.id, {}), self) for row in reader.trials(self._row.id)]

        return self._read(read)

    def trial(self, number: int) -> TrialResult:
        """One trial.

        Raises:
            NotFoundError: If the study has no trial of that number.
        """

        def read(reader: Reader) -> TrialResult:
            row = reader.trial(self._row.id, number)
            return TrialResult.of(row, reader.params(row.id), self)

        return self._read(read)

    @property
    def best(self) -> TrialResult:
        """The completed trial with the best value.

        Raises:
            NotFoundError: If no trial has completed yet.
            UsageError: If the study has several goals, where no one trial is the best: see ``front``.
        """
        if not self.goal.is_single:
            raise UsageError(
                f"Study {self.name!r} has several goals, so no one trial is its best", given=str(self.goal),
                hint="study.front for the trials that no other beats in everything",
            )
        best = self.top(1)
        if not best:
            raise NotFoundError(
                f"Study {self.name!r} has no completed trial yet",
                hint=f"velo show {self.name}  (or: velo why {self.name})",
            )
        return best[0]

    def top(self, count: int) -> list[TrialResult]:
        """The best completed trials, best first, by the goal's first metric."""

        def read(reader: Reader) -> list[TrialResult]:
            rows = reader.best(self._row.id, count)
            return [TrialResult.of(row, reader.params(row.id), self) for row in rows]

        return self._read(read)

    @property
    def front(self) -> list[TrialResult]:
        """The Pareto front: completed trials that no other beats in every goal, by number."""

        def read(reader: Reader) -> list[TrialResult]:
            rows, scores = self._scores(reader)
            return [TrialResult.of(rows[i], reader.params(rows[i].id), self) for i in front(scores)]

        return self._read(read)

    def hypervolume(self, **reference: float) -> float:
        """How much of the space between the Pareto front and a reference point the front wins; more is better.

        Args:
            reference: A value for each of the goal's metrics that is worse than the front's, by name; by default the
                worst that a completed trial has. Only volumes with the same reference can be compared.

        Raises:
            UsageError: If a name is none of the goal's metrics, or some are missing.
        """
        if reference and sorted(reference) != sorted(self.goal.metrics):
            raise UsageError("A reference point needs a value for each of the goal's metrics", given=repr(reference),
                             allowed=", ".join(self.goal.metrics))
        _, scores = self._read(self._scores)
        if not scores:
            return 0.0
        point = tuple(map(max, zip(*scores, strict=True)))
        if reference:
            pairs = zip(self.goal.directions, self.goal.values(reference), strict=True)
            point = tuple(d.score(v) for d, v in pairs)
        return hypervolume(scores, point)

    def _scores(self, reader: Reader) -> tuple[list[TrialRow], list[Point]]:
        """The completed trials, and their metrics turned so that lower is better."""
        rows = reader.trials(self._row.id, state=TrialState.COMPLETED)
        directions = self.goal.directions
        return rows, [
            tuple(d.score(v) for d, v in zip(directions, self.goal.values(json.loads(row.metrics)), strict=True))
            for row in rows
        ]

    def query(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows that a SQL question to the store gives; ``:study`` and ``:study_id`` name this study.

        >>> study.query("select number, value from leaderboard where study = :study limit 3")  # doctest: +SKIP
        [{'number': 7, 'value': 0.98}, ...]

        Raises:
            UsageError: If the question is not one, or would change the store.
        """

        def read(reader: Reader) -> list[dict[str, Any]]:
            known = {"study": self.name, "study_id": self._row.id, **parameters}
            columns, rows = reader.query(sql, known)
            return [dict(zip(columns, row, strict=True)) for row in rows]

        return self._read(read)

    def checkpoint(self, trial: TrialResult | int, *, step: int | None = None, map_to: Any = "cpu") -> Any:
        """What a trial kept by ``trial.checkpoint``: its newest checkpoint that is as it was written.

        >>> study.checkpoint(study.best)["model"]  # doctest: +SKIP

        Args:
            trial: The trial, or its number.
            step: Only the checkpoint of this step.
            map_to: Where tensors go that were on a GPU.

        Raises:
            NotFoundError: If there is none, or none that can be trusted.
        """
        from velodrome.trials.checkpoints import Kept, load, newest_sound

        number = trial if isinstance(trial, int) else trial.number
        rows = self._read(lambda reader: reader.checkpoints(reader.trial(self._row.id, number).id))
        wanted = [row for row in reversed(rows) if step in (None, row.step)]
        found, problems = newest_sound(self.store.parent, [Kept(row.step, row.path, row.sha256) for row in wanted])
        if found is not None:
            return load(self.store.parent / found.path, str(map_to))
        raise NotFoundError(
            f"Trial {number} of study {self.name!r} has no {'sound ' if problems else ''}checkpoint"
            + ("" if step is None else f" of step {step}"), given="; ".join(problems),
            allowed="" if problems else f"step {', '.join(str(row.step) for row in rows)}" if rows else "",
            hint="" if rows else "which finished trials keep theirs: --keep-checkpoints best (the default), all, N",
        )

    # --- by hand

    def ask(self) -> AskedTrial:
        """A new trial to run by hand.

        Raises:
            StudyBusyError: If another process runs the study.
            NotFoundError: If the sampler has nothing left (a grid was walked to its end).
            UsageError: If the study's objective asks for its parameters as it runs: there is no space to ask from.
        """
        from velodrome.trials import events as ev

        with self._lock:
            controller = self._control()
            if controller.table.history.is_define_by_run:
                raise UsageError(
                    f"Study {self.name!r} has no search space to take a configuration from",
                    hint=f"run its objective: velo resume {self.name}; or make a study with a space",
                )
            launch = controller.next()
            if launch is None:
                raise NotFoundError("The sampler has nothing left to suggest", given=controller.table.roster.exhausted)
            controller.happened(ev.Launched(launch.number, "asked", "cpu"))
            return AskedTrial(self, launch.number, dict(launch.params), controller.seed_of(launch.number))

    def tell(
        self, trial: AskedTrial | int, result: float | Sequence[float] | Mapping[str, float] | None = None, *,
        failed: str = "", pruned: str = "",
    ) -> None:
        """Ends an asked trial; the result is on disk when this returns.

        Args:
            trial: The trial, or its number.
            result: The goal's value, one per goal, or metrics by name; None where it reported its goal.
            failed: Why it failed, instead of a result.
            pruned: Why it was given up, instead of a result.

        Raises:
            UsageError: If the trial was not asked for here, or told already, or the result is no result.
        """
        from velodrome.trials import events as ev

        number = trial if isinstance(trial, int) else trial.number
        with self._lock:
            controller = self._control()
            if number not in controller.table.live:
                raise UsageError(
                    f"Trial {number} is not waiting for a result", given=f"trial {number}",
                    allowed=f"one of {sorted(controller.table.live)}", hint="trial = study.ask() first",
                )
            if failed:
                controller.happened(ev.Failed(number, Failure(FailureClass.USER, failed).to_json()))
            elif pruned:
                controller.happened(ev.Quit(number, pruned))
            else:
                metrics = _metrics(self.goal, result)
                known = {*controller.table.live[number].metrics, *metrics}
                missing = [name for name in self.goal.metrics if name not in known]
                if missing:
                    raise UsageError(
                        f"Trial {number} has no result yet", given=f"no {', '.join(missing)}: {result!r}",
                        allowed=f"a number for each of {', '.join(self.goal.metrics)}, here or in a report",
                        hint="failed='why' or pruned='why' where there is none",
                    )
                controller.happened(ev.Returned(number, metrics))
            controller.commit()

    def close(self) -> None:
        """Lets the study go, if this process had taken control of it by ``ask``; others may run it then.

        It is done at the latest when the study is no longer used, or the program ends.
        """
        with self._lock:
            if self._let_go is not None:
                self._let_go()
                self._controller = self._let_go = None

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _control(self) -> Controller:
        if self._controller is None:
            self._controller = self._take_control(self)
            self._let_go = weakref.finalize(self, _let_go, self._controller, os.getpid())
        return self._controller

    def _report(self, number: int, step: int, metrics: Metrics) -> None:
        from velodrome.trials import events as ev

        with self._lock:
            controller = self._control()
            controller.happened(ev.Reported(number, step, metrics))
            controller.commit(only_if_due=True)

    def _should_stop(self, number: int) -> bool:
        with self._lock:
            trial = self._control().table.live.get(number)
            return trial is None or bool(trial.stop_reason)

    def _read(self, question: Callable[[Reader], _T]) -> _T:
        with Reader(self.store) as reader:
            return question(reader)


def _let_go(controller: Controller, pid: int) -> None:
    """Ends a controller's hold on its study; not in a process that was forked off by the one that has it."""
    if os.getpid() == pid:
        try:
            controller.close("asked and told by hand", "stopped")
        finally:
            controller.release()


def _metrics(goal: Goal, result: float | Sequence[float] | Mapping[str, float] | None) -> Metrics:
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
