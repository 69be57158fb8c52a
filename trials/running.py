"""Runs one objective on one trial and says how it ended; the same in every executor."""

from __future__ import annotations

import os
import sys
from typing import Any

from velodrome.errors import Preempted as PlaceGivenAway
from velodrome.errors import Pruned
from velodrome.trials import failures
from velodrome.trials.context import Trial, gave_way, settle
from velodrome.trials.declaration import Objective, name_of, place_of
from velodrome.trials.events import Failed, Paused, Preempted, Quit, Returned
from velodrome.trials.link import Leave
from velodrome.trials.optuna_compat import is_pruned
from velodrome.trials.reading import read_result
from velodrome.types import Failure, FailureClass

Ending = Returned | Quit | Paused | Failed | Preempted


def run_trial(function: Objective, trial: Trial, metrics: tuple[str, ...]) -> Ending:
    """How the trial ended. ``metrics`` are the goal's; a KeyboardInterrupt passes through.

    A child that the objective forked, and that comes back here, ends at once in silence: the result is its parent's.
    """
    pid = os.getpid()
    outcome: Ending
    seed_libraries(trial.seed)
    try:
        value = function(trial)
        outcome = _outcome(function, trial.number, value, metrics)
    except KeyboardInterrupt:
        if os.getpid() == pid:
            raise
    except BaseException as error:
        if os.getpid() != pid:
            os._exit(0)
        outcome = ending_by(error, function, trial)
    if os.getpid() != pid:
        os._exit(0)
    return settled(outcome, trial)


def ending_by(error: BaseException, function: Objective, trial: Trial) -> Ending:
    """How a trial ended out of which ``error`` came."""
    match error:
        case Pruned():
            return Quit(trial.number, str(error) or "the objective raised Pruned")
        case PlaceGivenAway():
            return Preempted(trial.number, str(error))
        case Leave():
            return Paused(trial.number)
    if is_pruned(error):
        return Quit(trial.number, str(error) or "the objective raised TrialPruned")
    return Failed(trial.number, failures.of_exception(error, function).to_json())


def settled(outcome: Ending, trial: Trial) -> Ending:
    """The ending as it counts, once nothing of the trial runs any more.

    However a trial ends that was told to give its place away, it is preempted: what it says now is about a run that
    was cut short, and it will say it again where it is true.
    """
    if (reason := gave_way(trial)) is not None:
        return Preempted(trial.number, reason)
    if isinstance(outcome, Returned | Quit):
        settle(trial)
    return outcome


def seed_libraries(seed: int) -> None:
    """Seeds the global generators of ``random``, NumPy and torch, of those that are imported."""
    modules = sys.modules
    if (random := modules.get("random")) is not None:
        random.seed(seed)
    if (numpy := modules.get("numpy")) is not None:
        numpy.random.seed(seed)
    if (torch := modules.get("torch")) is not None:
        torch.manual_seed(seed)


def _outcome(function: Objective, trial: int, value: Any, metrics: tuple[str, ...]) -> Returned | Failed:
    """The event for what the objective returned."""
    try:
        return Returned(trial, read_result(value, metrics))
    except TypeError as error:
        file, line, code = place_of(function)
        message = f"{name_of(function)} returned {_shown(value)}: {error}"
        return Failed(trial, Failure(FailureClass.USER, message, "", file, line, code).to_json())


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # the user's own __repr__
        text = "?"
    return f"{text[:80]}{'...' * (len(text) > 80)} ({type(value).__name__})"
