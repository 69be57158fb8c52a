"""What a study has tried so far, as samplers see it: the finished trials by column, the running ones by number.

Compact, for studies of a hundred thousand trials: one row of raw codes (``Space.to_row``) and a few numbers for each
finished trial, in arrays that double when full. A trial's attributes take room only where there are any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from velodrome.search.domains import Domain, hull
from velodrome.search.space import Space
from velodrome.types import FailureClass, Goal, Params, ParamValue, Suggestion, TrialState

FINISHED_STATES = (TrialState.COMPLETED, TrialState.PRUNED, TrialState.FAILED)
"""What the codes in ``History.states`` stand for."""

_STATE_CODES = {state: code for code, state in enumerate(FINISHED_STATES)}
_FAILURES = tuple(FailureClass)
_FAILURE_CODES = {failure: code for code, failure in enumerate(_FAILURES)}
_NO_STEP = np.iinfo(np.int64).min
_FIRST_CAPACITY = 64


class FinishedTrial(NamedTuple):
    """One finished trial."""

    number: int
    params: Params
    attrs: Mapping[str, ParamValue]
    """What the sampler kept with its suggestion."""
    state: TrialState
    values: tuple[float, ...] | None
    """The goal's metrics as reported (not turned), or None where there are none."""
    step: int | None
    """The last step it reported, or None."""
    failure: FailureClass | None


class History:
    """The trials of one study.

    Args:
        space: The search space; empty for a define-by-run objective, and then grown by ``add_param``.
        goal: What the study looks for.
    """

    def __init__(self, space: Space, goal: Goal) -> None:
        self.space = space
        self.goal = goal
        self.is_define_by_run = not len(space)
        """Whether the space was empty at first: trials ask for their parameters as they run."""
        self.running: dict[int, Suggestion] = {}
        """The suggestions of the trials that run, by number, in order of their start."""
        self.so_far: dict[int, tuple[tuple[float, ...], int | None]] = {}
        """Of the trials that are or were paused, and are not finished: their goal's metrics, and at which step."""
        self._len = 0
        self._rows = np.empty((_FIRST_CAPACITY, len(space)), np.float64)
        self._values = np.empty((_FIRST_CAPACITY, len(goal.metrics)), np.float64)
        self._numbers = np.empty(_FIRST_CAPACITY, np.int64)
        self._steps = np.empty(_FIRST_CAPACITY, np.int64)
        self._codes = np.empty((_FIRST_CAPACITY, 3), np.int8)  # state, failure or -1, whether there are values
        self._attrs: dict[int, Mapping[str, ParamValue]] = {}
        is_finite = len(space) > 0 and space.cardinality is not None
        self._seen: dict[int, int] | None = {} if is_finite else None

    def __len__(self) -> int:
        """The number of finished trials."""
        return self._len

    # ---- what happens

    def start(self, number: int, suggestion: Suggestion) -> None:
        """Trial ``number`` has its configuration. A trial that is started again counts from its last start."""
        self.drop(number)
        self.running[number] = suggestion
        if self._seen is not None:
            key = self.space.key(suggestion.params)
            self._seen[key] = self._seen.get(key, 0) + 1

    def add_param(self, number: int, name: str, domain: Domain, value: ParamValue) -> None:
        """Running trial ``number`` asked for a parameter and got ``value`` (define by run); the space grows to hold it.

        Raises:
            SpaceError: If the domain makes no sense, contradicts an earlier one of that name, or lacks the value.
        """
        domain.validate(name)
        domain.check(name, value)
        known = self.space.domains.get(name)
        if known != domain:
            self._grow_space(name, domain if known is None else hull(name, known, domain))
        suggestion = self.running[number]
        self.running[number] = Suggestion({**suggestion.params, name: value}, suggestion.attrs)

    def finish(
        self, number: int, state: TrialState, values: tuple[float, ...] | None, step: int | None = None,
        failure: FailureClass | None = None,
    ) -> None:
        """Running trial ``number`` is over.

        Args:
            number: The trial.
            state: Completed, pruned or failed.
            values: The goal's metrics, or None where there are none. NaN and infinity are values.
            step: The last step it reported.
            failure: Why it failed, if it did.
        """
        suggestion = self.running.pop(number)
        self.so_far.pop(number, None)
        if self._len == len(self._numbers):
            self._double()
        i = self._len
        self._rows[i] = self.space.to_row(suggestion.params)
        self._values[i] = math.nan if values is None else values
        self._numbers[i] = number
        self._steps[i] = _NO_STEP if step is None else step
        failure_code = -1 if failure is None else _FAILURE_CODES[failure]
        self._codes[i] = _STATE_CODES[state], failure_code, values is not None
        if suggestion.attrs:
            self._attrs[number] = suggestion.attrs
        self._len += 1

    def note(self, number: int, values: tuple[float, ...], step: int | None) -> None:
        """Running trial ``number`` is paused, with these values of the goal's metrics (NaN where one is missing)."""
        self.so_far[number] = values, step

    def drop(self, number: int) -> None:
        """Trial ``number``, if it is running, was never suggested."""
        self.so_far.pop(number, None)
        suggestion = self.running.pop(number, None)
        if suggestion is None or self._seen is None:
            return
        key = self.space.key(suggestion.params)
        if self._seen[key] == 1:
            del self._seen[key]
        else:
            self._seen[key] -= 1

    # ---- what is known

    def finished(self, start: int = 0) -> Iterator[FinishedTrial]:
        """The finished trials in order of finishing, from the ``start``-th (0 is the first)."""
        for i in range(start, self._len):
            state, failure, has_values = self._codes[i].tolist()
            number, step = int(self._numbers[i]), int(self._steps[i])
            yield FinishedTrial(
                number, self.space.from_row(self._rows[i].tolist()), self._attrs.get(number, _NO_ATTRS),
                FINISHED_STATES[state], tuple(self._values[i].tolist()) if has_values else None,
                None if step == _NO_STEP else step, None if failure < 0 else _FAILURES[failure],
            )

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The finished trials' numbers in order of finishing, int64 [n]."""
        return _readonly(self._numbers[: self._len])

    @property
    def values(self) -> NDArray[np.float64]:
        """The goal's metrics, float64 [n, k], NaN where there are none."""
        return _readonly(self._values[: self._len])

    @property
    def states(self) -> NDArray[np.int8]:
        """Indices into ``FINISHED_STATES``, int8 [n]."""
        return _readonly(self._codes[: self._len, 0])

    def rows(self) -> NDArray[np.float64]:
        """The configurations as raw codes, float64 [n, ``len(space)``] (see ``Space.to_row``)."""
        return _readonly(self._rows[: self._len])

    @property
    def attrs(self) -> Mapping[int, Mapping[str, ParamValue]]:
        """The attributes of those finished trials that have any, by number."""
        return MappingProxyType(self._attrs)

    def seen(self, key: int) -> bool:
        """Whether a started or finished trial has the configuration of this ``Space.key``.

        Always False where the space is empty or has no finite cardinality: there it is not kept.
        """
        return self._seen is not None and key in self._seen

    # ---- room

    def _grow_space(self, name: str, domain: Domain) -> None:
        is_new = name not in self.space.domains
        self.space = self.space.with_domain(name, domain)
        if is_new:
            column = np.full((len(self._rows), 1), math.nan)
            self._rows = np.concatenate([self._rows, column], axis=1)
        self._seen = None  # a define-by-run trial is not known whole before it ends

    def _double(self) -> None:
        for name in ("_rows", "_values", "_numbers", "_steps", "_codes"):
            old: NDArray[Any] = getattr(self, name)
            new = np.empty((2 * len(old), *old.shape[1:]), old.dtype)
            new[: self._len] = old[: self._len]
            setattr(self, name, new)


_NO_ATTRS: Mapping[str, ParamValue] = MappingProxyType({})


def _readonly(view: NDArray[Any]) -> NDArray[Any]:
    view.flags.writeable = False
    return view
