"""What an objective carries besides its code: the search space and the goal, put there by a decorator.

::

    @velo.objective(Space(lr=Float(1e-5, 1e-1, log=True)), goal="maximize accuracy")
    def train(trial):
        ...

The decorated function stays an ordinary function. An undecorated one is as good an objective. A training job
(``TrainingJob``) has both as attributes, and is called with a trial like any function.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

from velodrome.errors import ObjectiveError, SpaceError, UsageError, nearest
from velodrome.trials.executor import ObjectiveInfo
from velodrome.trials.training_job import TrainingJob
from velodrome.types import Goal

Objective = Callable[..., Any]
"""A function of one argument, the trial."""

_F = TypeVar("_F", bound=Callable[..., Any])
_ON_OOM = ("fail", "halve")
_MARK = "__velo_objective__"


class SpaceLike(Protocol):
    """A search space, as far as an objective knows it."""

    def to_json(self) -> dict[str, Any]:
        """The space as JSON."""
        ...


class Declared:
    """What the decorator was given."""

    def __init__(self, space: SpaceLike | None, goal: str | None, on_oom: str = "fail") -> None:
        self.space, self.goal, self.on_oom = space, goal, on_oom


@overload
def objective(space: _F, /) -> _F: ...
@overload
def objective(
    space: SpaceLike | None = None, *, goal: str | None = None, on_oom: str = "fail"
) -> Callable[[_F], _F]: ...
def objective(space: Any = None, *, goal: str | None = None, on_oom: str = "fail") -> Any:
    """Marks a function as an objective, with its space and its goal; works with and without parentheses.

    Args:
        space: The search space; None for a define-by-run objective.
        goal: Such as ``"maximize accuracy"``.
        on_oom: What becomes of a trial that runs out of memory: it fails (``"fail"``), or it is started again with
            ``trial.batch_divisor`` doubled (``"halve"``), for an objective that trains on ``trial.micro_batches``.

    Raises:
        UsageError: If the goal's text is not understood, or ``on_oom`` is neither.
        SpaceError: If ``space`` is not a search space.
    """
    if inspect.isfunction(space):
        return objective()(space)
    if space is not None and not hasattr(space, "to_json"):
        raise SpaceError(
            "The first argument of @objective is not a search space", given=repr(space), allowed="velodrome.Space(...)",
            hint="for example: @velo.objective(velo.Space(lr=velo.Float(0, 1)), goal='minimize loss')",
        )
    if goal is not None and not isinstance(goal, str):
        raise UsageError("A goal is a text", given=repr(goal), allowed="such as 'maximize accuracy'")
    if goal is not None:
        Goal.parse(goal)
    if on_oom not in _ON_OOM:
        raise UsageError("What to do about too little memory is not understood", given=f"on_oom={on_oom!r}",
                         allowed=", ".join(map(repr, _ON_OOM)), hint=nearest(str(on_oom), _ON_OOM))

    def mark(function: _F) -> _F:
        setattr(function, _MARK, Declared(space, goal, on_oom))
        return function

    return mark


_JOB_METHODS = ("data", "model", "loss", "optimizer")


def is_job_class(value: Any) -> bool:
    """Whether the value is a class of training jobs."""
    return isinstance(value, type) and issubclass(value, TrainingJob)


def missing_methods(cls: type) -> list[str]:
    """What a class of training jobs does not declare, though it must."""
    return [name for name in _JOB_METHODS if getattr(cls, name) is getattr(TrainingJob, name)]


def as_objective(value: Any) -> Objective:
    """The value as a function of a trial; of a class of training jobs, a job.

    Raises:
        ObjectiveError: If the function takes something else than a trial; if the job lacks a method, or can't be made
            without arguments.
    """
    if not is_job_class(value) and not isinstance(value, TrainingJob):
        return _of_a_trial(value)
    cls: type = value if isinstance(value, type) else type(value)
    if missing := missing_methods(cls):
        raise ObjectiveError(
            f"The training job {cls.__name__!r} is not complete", given=f"no {', '.join(missing)}",
            allowed=f"{', '.join(_JOB_METHODS)}, and maybe metrics and batch_size",
            hint=nearest(missing[0], vars(cls)) or f"def {missing[0]}(self, ...) in class {cls.__name__}",
        )
    try:
        job: Objective = value() if isinstance(value, type) else value
    except TypeError as error:
        raise ObjectiveError(
            f"The training job {cls.__name__!r} can't be made: {error}", given=f"class {cls.__name__}",
            allowed="a class that takes no arguments, or a job that is made",
            hint=f"in the file: job = {cls.__name__}(...); in Python: velo.sweep({cls.__name__}(...))",
        ) from None
    return job


def _of_a_trial(function: Objective) -> Objective:
    """The function, which can be called with a trial alone."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # one written in C may not say
        return function
    try:
        signature.bind(None)
    except TypeError as error:
        name = name_of(function)
        raise ObjectiveError(
            f"{name!r} can't be called with a trial alone: {error}", given=f"{name}{signature}",
            allowed="a function of one argument, the trial",
            hint="take the parameters from trial.params, or fix what else there is: functools.partial",
        ) from None
    return function


def declared(function: Any) -> Declared | None:
    """What the decorator put on the function, or a training job has as attributes; None where there is neither."""
    if isinstance(function, TrainingJob) or is_job_class(function):
        return Declared(function.space, function.goal)
    mark = getattr(function, _MARK, None)
    return mark if isinstance(mark, Declared) else None


def describe(function: Objective, ref: str) -> ObjectiveInfo:
    """What the objective says of itself; ``ref`` is how to load it again."""
    mark = declared(function) or Declared(None, None)
    if isinstance(function, TrainingJob):
        objective(mark.space, goal=mark.goal)  # raises where they make no sense
    space = None if mark.space is None else mark.space.to_json()
    return ObjectiveInfo(name_of(function), ref, space, mark.goal, place_of(function)[0],
                         "" if mark.on_oom == "fail" else mark.on_oom, isinstance(function, TrainingJob))


def name_of(function: Objective) -> str:
    """The function's name; that of its class for a callable object, of what it wraps for a partial."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__name__", type(inner).__name__))


def place_of(function: Objective) -> tuple[str, int, str]:
    """File, line and text of the function's ``def``; ``("", 0, "")`` where it has none."""
    if isinstance(function, TrainingJob) or is_job_class(function):
        return _place_of_class(function if isinstance(function, type) else type(function))
    inner = inspect.unwrap(getattr(function, "func", function))
    code = getattr(inner, "__code__", None) or getattr(vars(type(inner)).get("__call__"), "__code__", None)
    if code is None:
        return "", 0, ""
    file, line = code.co_filename, code.co_firstlineno
    for number in range(line, line + 20):  # the first line of a decorated function is its decorator's
        text = linecache.getline(file, number).strip()
        if text.startswith(("def ", "async def ")):
            line = number
            break
    return (str(Path(file).resolve()) if Path(file).exists() else file), line, linecache.getline(file, line).strip()


def _place_of_class(cls: type) -> tuple[str, int, str]:
    try:
        file, (lines, line) = inspect.getsourcefile(cls) or "", inspect.getsourcelines(cls)
    except (OSError, TypeError):  # defined in no file
        return "", 0, ""
    return str(Path(file).resolve()), line, lines[0].strip()
