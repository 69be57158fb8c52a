"""A study as its user sees it: what was asked for, its trials, its best, and any question in SQL.

Everything here reads through short read-only connections, so a study can be looked at while it runs, from any process.
``ask`` and ``tell`` run a study by hand (``by_hand``): they make this process its controller.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from velodrome.arguments import whole
from velodrome.by_hand import AskedTrial, ByHand, Result
from velodrome.errors import NotFoundError, UsageError
from velodrome.pareto import Point, front, hypervolume
from velodrome.records import StudyRow, TrialRow
from velodrome.results import TrialResult
from velodrome.search.space import Space
from velodrome.store.reader import Reader
from velodrome.stored_space import space_of
from velodrome.types import Goal, TrialState

if TYPE_CHECKING:
    from velodrome.trials.controller import Controller

_T = TypeVar("_T")


class Study:
    """A study in a store.

    Args:
        store: The store's path.
        name: The study's name.
        take_control: Makes this process the controller of a study, by its store and its name; ``wiring`` has it.
    """

    def __init__(self, store: Path, name: str, take_control: Callable[[Path, str], Controller]) -> None:
        self.store, self.name = store, name
        self._row = self._read(lambda reader: reader.study(name))
        self.goal = Goal.parse(self._row.goal)
        self._by_hand = ByHand(name, self.goal, partial(take_control, store, name))

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
        return space_of(self.store, self.row.space)

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
            row = reader.trial(self._row.id, whole("number", number, 0))
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
            rows = reader.best(self._row.id, whole("count", count, 0))
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
        return self._by_hand.ask()

    def tell(
        self, trial: AskedTrial | int, result: Result = None, *, failed: str = "", pruned: str = ""
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
        number = trial if isinstance(trial, int) else trial.number
        self._by_hand.tell(number, result, failed=failed, pruned=pruned)

    def close(self) -> None:
        """Lets the study go, if this process had taken control of it by ``ask``; others may run it then.

        It is done at the latest when the study is no longer used, or the program ends.
        """
        self._by_hand.close()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _read(self, question: Callable[[Reader], _T]) -> _T:
        with Reader(self.store) as reader:
            return question(reader)
