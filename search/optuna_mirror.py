"""A study's history as a table of Optuna's trials: filled at first use, then brought up to date in O(what is new).

What each trial is told as:

- completed: complete, with its values;
- paused, or running after a pause: pruned, as below, with what it had come to then;
- pruned: pruned, with its last value at its last step (single-objective; Optuna prunes no other), or without a value;
- failed by ``oom`` or ``diverged``: complete and worse than all others, for that is what we know of the place: infinity
  where a sampler goes by ranks; a Gaussian process and the hypervolumes of multi-objective TPE need a number,
  and get one a tenth of the range beyond the worst seen;
- failed otherwise: failed, which tells a sampler nothing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from velodrome.search.optuna_space import Layout
from velodrome.search.optuna_table import TrialTable, row
from velodrome.types import Direction, FailureClass, Params, ParamValue, Suggestion, TrialState

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from velodrome.search.history import FinishedTrial, History

TOLD = "told"
"""Attribute: how many trials had finished when this one changed the sampler's state (see ``Mirror``)."""
JOINT = "joint"
"""Attribute of a define-by-run trial: the codes that were sampled for it together, as a JSON object."""
_GENERATION = ":generation"
"""How Optuna's attributes end that CMA-ES and NSGA-II count their generations in."""
_OPTIMIZER = ":optimizer:"
"""What Optuna's attributes contain that hold CMA-ES's pickled optimiser. They stay in memory."""
_INFEASIBLE = (FailureClass.OOM, FailureClass.DIVERGED)


class Mirror:
    """The table of one history.

    CMA-ES and NSGA-II change their own state at some trials: the optimiser moves on by a generation, or a generation's
    parents are picked, from the trials that have finished by then. ``keep`` gives such a trial an attribute with their
    number; when the table is filled again, ``replay`` is called for it at the same point.

    Args:
        history: The study.
        max_steps: The most steps that the sampler can take for a parameter.
        needs_finite: Whether infeasible trials must have finite values.
        counts_pruned: Whether the sampler's search space takes pruned trials into account (define by run).
        replay: Asks the sampler for a suggestion for this trial over the mirror, for what that does to its state.
    """

    def __init__(
        self, history: History, *, max_steps: float, needs_finite: bool, counts_pruned: bool,
        replay: Callable[[Mirror, int], None],
    ) -> None:
        self.history = history
        self.max_steps = max_steps
        self.layout = Layout(history.space, max_steps)
        self.table = TrialTable(history.goal.directions)
        self._needs_finite = needs_finite
        self._counts_pruned = counts_pruned
        self._told = 0
        self._running: dict[int, tuple[Suggestion, object]] = {}
        """The rows of unfinished trials: of which suggestion, and what the trial had come to."""
        self._infeasible: list[int] = []
        self._ranges: list[tuple[float, float]] = [(math.inf, -math.inf) for _ in history.goal.directions]
        self._with_param: Counter[str] = Counter()
        self._num_modelled = 0
        self._optimizers: dict[int, dict[str, Any]] = {}
        self._last_optimizer = -1
        self._moved: dict[int, int] = {}
        self._fill(replay)

    # ---- keeping up

    def fits(self, history: History) -> bool:
        """Whether this mirrors that history; False also where a parameter's known range has grown (define by run)."""
        if history is not self.history:
            return False
        if history.space is not self.layout.space:
            domains = history.space.domains
            if any(domains.get(name) != domain for name, domain in self.layout.space.domains.items()):
                return False
            self.layout = Layout(history.space, self.max_steps)
        return True

    def update(self, number: int | None) -> None:
        """Takes in all that has finished or started since, but for trial ``number``, which is to be suggested."""
        self._tell(len(self.history))
        running = self.history.running
        for gone in [n for n in self._running if n not in running or n == number]:
            del self._running[gone]
            self.table.drop(gone)
        for n, suggestion in running.items():
            if n == number:
                continue
            so_far = self.history.so_far.get(n)
            known = self._running.get(n)
            if known is None or known[0] is not suggestion or known[1] is not so_far:
                self._running[n] = suggestion, so_far
                self._put_unfinished(n, suggestion, so_far)

    def modelled(self) -> dict[str, BaseDistribution]:
        """The parameters that every trial so far has had: what a define-by-run trial's joint model is made of."""
        return {
            name: coding.distribution for name, coding in self.layout.codings.items()
            if not coding.distribution.single() and 0 < self._num_modelled == self._with_param[name]
        }

    def keep(self, draft: FrozenTrial, *, moved: bool) -> dict[str, ParamValue]:
        """Takes in what a sampler noted on a draft; returns the attributes to store with the suggestion."""
        notes = draft.system_attrs
        optimizer = {key: value for key, value in notes.items() if _OPTIMIZER in key}
        if optimizer:
            self._optimizers[draft.number] = optimizer
        attrs: dict[str, ParamValue] = {key: value for key, value in notes.items() if key.endswith(_GENERATION)}
        if moved or optimizer:
            self._moved[draft.number] = self._told
        if draft.number in self._moved:  # also when it is asked again, for then the parents are picked already
            attrs[TOLD] = self._moved[draft.number]
        return attrs

    # ---- trials

    def _fill(self, replay: Callable[[Mirror, int], None]) -> None:
        history = self.history
        all_attrs = [*history.attrs.items(), *((n, s.attrs) for n, s in history.running.items())]
        for told, number in sorted((int(attrs[TOLD] or 0), n) for n, attrs in all_attrs if TOLD in attrs):
            self._tell(told)
            replay(self, number)

    def _tell(self, until: int) -> None:
        """Takes in the finished trials up to the ``until``-th."""
        for trial in self.history.finished(self._told):
            if self._told == until:
                break
            self._told += 1
            self._running.pop(trial.number, None)
            self._finish(trial)
        if self._needs_finite and self._infeasible:
            worst = self._beyond_worst()
            for number in self._infeasible:
                infeasible = self.table.rows[number]
                assert infeasible is not None
                infeasible.values = worst

    def _put_unfinished(
        self, number: int, suggestion: Suggestion, so_far: tuple[tuple[float, ...], int | None] | None
    ) -> None:
        """A running trial, or one that was paused: that counts as pruned where it was, until more is known."""
        params, attrs = suggestion.params, suggestion.attrs
        if so_far is None or len(so_far[0]) > 1 or not math.isfinite(so_far[0][0]):
            self._put(number, OptunaState.RUNNING, params, attrs)
            return
        values, step = so_far
        self._put(number, OptunaState.PRUNED, params, attrs, values, {step or 0: values[0]}, finished=False)

    def _finish(self, trial: FinishedTrial) -> None:
        directions = self.history.goal.directions
        values, reports, state = trial.values, None, OptunaState.FAIL
        if trial.state is TrialState.COMPLETED and values is not None and all(map(math.isfinite, values)):
            state = OptunaState.COMPLETE
            self._ranges = [(min(low, v), max(high, v)) for (low, high), v in zip(self._ranges, values, strict=True)]
        elif trial.state is TrialState.COMPLETED or trial.failure in _INFEASIBLE:
            state, values = OptunaState.COMPLETE, tuple(_worst(d) for d in directions)
            self._infeasible.append(trial.number)
        elif trial.state is TrialState.PRUNED:
            state = OptunaState.PRUNED
            if values is not None and len(directions) == 1:
                values = values if math.isfinite(values[0]) else (_worst(directions[0]),)
                reports = {trial.step or 0: values[0]}
            else:
                values = None
        else:
            values = None
        self._put(trial.number, state, trial.params, trial.attrs, values, reports)
        if state is OptunaState.COMPLETE or (state is OptunaState.PRUNED and self._counts_pruned):
            self._num_modelled += 1
            self._with_param.update(trial.params.keys())

    def _put(
        self, number: int, state: OptunaState, params: Params, attrs: Mapping[str, ParamValue],
        values: tuple[float, ...] | None = None, reports: dict[int, float] | None = None, *, finished: bool = True,
    ) -> None:
        codes = self.layout.encode(params)
        if state is OptunaState.RUNNING and JOINT in attrs:
            codes = {**json.loads(str(attrs[JOINT])), **codes}
        notes: dict[str, Any] = {key: value for key, value in attrs.items() if key.endswith(_GENERATION)}
        if state.is_finished() and finished:
            notes |= self._optimizer_of(number, state)
        self.table.put(row(number, state, codes, self.layout.distributions(codes), values=values,
                           attrs=notes or None, reports=reports))

    def _optimizer_of(self, number: int, state: OptunaState) -> dict[str, Any]:
        """The notes with the optimiser for a trial's row; CMA-ES reads those of the last complete trial with any."""
        optimizer = self._optimizers.pop(number, None)
        if optimizer is None or state is not OptunaState.COMPLETE or number < self._last_optimizer:
            return {}
        if self._last_optimizer >= 0:
            last = self.table.rows[self._last_optimizer]
            assert last is not None
            for key in [key for key in last.system_attrs if _OPTIMIZER in key]:
                del last.system_attrs[key]
        self._last_optimizer = number
        return optimizer

    def _beyond_worst(self) -> list[float]:
        """Values a tenth of the range beyond the worst that are finite."""
        worst = []
        for direction, (low, high) in zip(self.history.goal.directions, self._ranges, strict=True):
            margin = 0.1 * ((high - low) or abs(high) or 1.0)
            if low > high:
                worst.append(0.0)
            else:
                worst.append(high + margin if direction is Direction.MINIMIZE else low - margin)
        return worst


def _worst(direction: Direction) -> float:
    return math.inf if direction is Direction.MINIMIZE else -math.inf
