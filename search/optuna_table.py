"""The trials of a study as Optuna's samplers read them: an in-memory storage whose rows are put there ready-made.

Optuna's own in-memory storage copies a trial at every change and keeps whatever samplers write into it. Here a row is a
function of what the history says about its trial and nothing else, so that a table rebuilt from the history is the one
that ran on. A sampler's notes on the trial it works at go to a draft that is never a row.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from velodrome.search.optuna_space import Code
from velodrome.types import Direction

_NAME = "velodrome"
_NOTHING: dict[Any, Any] = {}
"""Shared by all rows that have none of something: a hundred thousand empty dicts take room. Samplers only read rows."""


class TrialTable(InMemoryStorage):
    """The storage. A trial's id is its number. Where a number has no row, Optuna sees no trial."""

    def __init__(self, directions: Sequence[Direction]) -> None:
        super().__init__()
        self.rows: list[FrozenTrial | None] = []
        self.draft = row(0, TrialState.RUNNING)
        self.notes_on_study = 0
        """How often a sampler has written to the study: NSGA-II does when it picks a generation's parents."""
        with quiet():
            self.create_new_study([StudyDirection[d.name] for d in directions], _NAME)

    def study(self, sampler: optuna.samplers.BaseSampler) -> Study:
        """The table as a study, for one suggestion: a ``Study`` keeps the trials that it has seen."""
        return optuna.load_study(study_name=_NAME, storage=self, sampler=sampler)

    def put(self, trial: FrozenTrial) -> None:
        """Sets a trial's row."""
        missing = trial.number + 1 - len(self.rows)
        if missing > 0:
            self.rows.extend([None] * missing)
        self.rows[trial.number] = trial

    def drop(self, number: int) -> None:
        """Removes a trial's row."""
        self.rows[number] = None

    def new_draft(self, number: int) -> FrozenTrial:
        """A fresh trial for a sampler to work at."""
        self.draft = row(number, TrialState.RUNNING, attrs={})
        return self.draft

    # ---- what samplers call

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The rows in order of number."""
        trials = [t for t in self.rows if t is not None and (states is None or t.state in states)]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The draft, if it is that trial's; else its row."""
        trial = self.draft if trial_id == self.draft.number else self.rows[trial_id]
        if trial is None:
            raise KeyError(trial_id)
        return trial

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Notes something on the draft."""
        assert trial_id == self.draft.number, "samplers write to the trial they work at only"
        self.draft.system_attrs[key] = value

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Notes something on the study."""
        self.notes_on_study += 1
        super().set_study_system_attr(study_id, key, value)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna's log and NumPy's floating-point warnings away from the user, who did not call either."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def row(
    number: int, state: TrialState, params: dict[str, Code] | None = None,
    distributions: dict[str, BaseDistribution] | None = None, *, values: Sequence[float] | None = None,
    attrs: dict[str, Any] | None = None, reports: dict[int, float] | None = None,
) -> FrozenTrial:
    """A trial as Optuna keeps it, without times."""
    return FrozenTrial(
        number, state, None, None, None, _NOTHING if params is None else params,
        _NOTHING if distributions is None else distributions, _NOTHING, _NOTHING if attrs is None else attrs,
        _NOTHING if reports is None else reports, number, values=values,
    )
