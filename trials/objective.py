"""Where an objective comes from, and how it travels to the processes that run it.

A reference is loaded again wherever it is needed. A Python function travels as a cloudpickle: one that a worker can
import goes by its name, with ``sys.path`` carried along; closures, lambdas and functions of ``__main__`` or of a
notebook go by value.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from velodrome.errors import ObjectiveError
from velodrome.trials import failures
from velodrome.trials.declaration import Objective, as_objective, name_of, objective, place_of
from velodrome.trials.loading import Reference, load_objective
from velodrome.trials.training_job import TrainingJob

__all__ = ["ObjectiveSource", "PackedObjective", "imports_of", "load_objective", "objective"]

PRELOADABLE = ("numpy", "torch", "optuna", "gymnasium", "sklearn", "pandas", "scipy")
"""Slow imports without side effects: done once in the launcher, shared by every worker that it forks."""
_ENGINE = "velodrome.trials.fused.group_worker"
"""What trains the trials of a training job together."""


@dataclass(frozen=True, slots=True)
class PackedObjective:
    """An objective on its way to another process."""

    ref: str
    payload: bytes
    """The cloudpickle; empty where ``ref`` alone says it all."""
    cwd: str
    sys_path: tuple[str, ...]
    """What the function needs on ``sys.path``; empty for a reference, which brings its own folder."""
    preloads: tuple[str, ...]

    def load(self) -> tuple[Objective, str]:
        """The function and its full reference (``""`` where it can't be loaded again).

        Raises:
            ObjectiveError: If it can't be found or loaded.
        """
        if not self.payload:
            return load_objective(self.ref, self.cwd)
        import cloudpickle

        sys.path[:] = [*self.sys_path, *(p for p in sys.path if p not in self.sys_path)]
        try:
            value = cloudpickle.loads(self.payload)
        except Exception as error:
            failure = failures.of_exception(error, None)
            raise ObjectiveError(
                f"The objective could not be rebuilt in a worker: {failure.message}", traceback=failure.traceback,
                hint="import inside the function what its module can't import from elsewhere",
            ) from None
        return as_objective(value), self.ref


@dataclass(frozen=True, slots=True)
class ObjectiveSource:
    """An objective as the user gave it: a reference, or a Python function.

    Attributes:
        objective: ``FILE.py[:NAME]``, ``MODULE:NAME``, or a callable.
        cwd: The folder that relative paths are meant from.
    """

    objective: str | Callable[..., Any]
    cwd: str

    @classmethod
    def of(cls, what: str | Callable[..., Any], cwd: str | None = None) -> ObjectiveSource:
        """The source of a reference, function or training job, with paths from ``cwd`` (or else the current folder).

        Raises:
            ObjectiveError: If it is none of these.
        """
        if not isinstance(what, str) and not callable(what):
            raise ObjectiveError("An objective is no function", given=repr(what),
                                 allowed="a function of a trial, a training job, or where it is: 'train.py:objective'")
        if isinstance(what, TrainingJob) and not what.__getstate__():
            what = type(what)  # says as much, and can be found again by its name
        return cls(what, cwd or str(Path.cwd()))

    def load(self) -> tuple[Objective, str]:
        """The function in this process and its full reference (``""`` where it can't be loaded again)."""
        if isinstance(self.objective, str):
            return load_objective(self.objective, self.cwd)
        return as_objective(self.objective), self._ref_of(self.objective)

    def pack(self) -> PackedObjective:
        """The objective ready to travel.

        Raises:
            ObjectiveError: If the function can't be pickled.
        """
        if isinstance(self.objective, str):
            Reference.parse(self.objective)
            return PackedObjective(self.objective, b"", self.cwd, (), imports_of(self._file()))
        payload = _pickled(self.objective)
        file = place_of(self.objective)[0]
        preloads = imports_of(file) if Path(file).is_file() else tuple(
            name for name in PRELOADABLE if name in sys.modules and name.encode() in payload
        )
        path = tuple(str(Path(p).resolve()) for p in sys.path)
        return PackedObjective(self._ref_of(self.objective), payload, self.cwd, path, preloads)

    def code(self) -> bytes:
        """The objective's file, to tell whether two are the same; its name where it has none, as in a notebook."""
        named = isinstance(self.objective, str)
        file = self._file() if named else place_of(self.objective)[0]  # type: ignore[arg-type]  # it is a function then
        return Path(file).read_bytes() if Path(file).is_file() else str(self.objective).encode()

    def _file(self) -> str:
        """The file of a reference, found without importing anything; ``""`` where it is not found."""
        reference = Reference.parse(str(self.objective))
        if reference.is_file:
            return str(Path(self.cwd, reference.target))
        return module_file(reference.target, [self.cwd, *sys.path])

    def _ref_of(self, function: Callable[..., Any]) -> str:
        """How to load a Python function again: by name, where it stands at the top of an importable module."""
        module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
        if module == "__main__" or not name.isidentifier() or not _is_importable(function):
            return ""
        return f"{module}:{name}" if "." in module else f"{place_of(function)[0]}:{name}"


def imports_of(file: str) -> tuple[str, ...]:
    """The slow modules that a Python file will need: what it imports anywhere in it, in the order of ``PRELOADABLE``.

    A file that is missing or does not parse imports nothing: loading it will say what is wrong.
    """
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    names, has_job = set(), False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
        has_job |= isinstance(node, ast.ClassDef) and any("TrainingJob" in ast.unparse(base) for base in node.bases)
    return tuple(name for name in PRELOADABLE if name in names) + ((_ENGINE,) if has_job else ())


def _pickled(function: Callable[..., Any]) -> bytes:
    """The function's cloudpickle; by value where its module can't be found by another process."""
    import cloudpickle

    module = sys.modules.get(getattr(function, "__module__", "") or "")
    by_value = module is not None and module.__name__ != "__main__" and not _is_importable(function)
    try:
        if not by_value:
            return bytes(cloudpickle.dumps(function))
        cloudpickle.register_pickle_by_value(module)
        try:
            return bytes(cloudpickle.dumps(function))
        finally:
            cloudpickle.unregister_pickle_by_value(module)
    except Exception as error:
        raise ObjectiveError(
            f"The objective {name_of(function)!r} can't be sent to a worker: {error}",
            given=f"a function that holds on to something that can't be pickled ({type(error).__name__})",
            allowed="functions whose globals and closures can be pickled",
            hint="create locks, files, sockets and loaders inside the function, or use executor='inline'",
        ) from error


def _is_importable(function: Callable[..., Any]) -> bool:
    """Whether another process with the same ``sys.path`` finds the function's module, in the same file."""
    module = sys.modules.get(getattr(function, "__module__", "") or "")
    file = getattr(module, "__file__", None)
    if module is None or not file:
        return False
    found = module_file(module.__name__, sys.path)
    return bool(found) and Path(found).resolve() == Path(file).resolve()


def module_file(name: str, path: list[str]) -> str:
    """The file of a module, found by walking its packages without importing them; ``""`` where there is none."""
    folders: list[str] | None = path
    spec = None
    for part in name.split("."):
        spec = PathFinder.find_spec(part, folders)
        if spec is None:
            return ""
        folders = list(spec.submodule_search_locations or [])
    return (spec.origin if spec is not None else "") or ""
