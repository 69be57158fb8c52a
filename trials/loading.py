"""Finds an objective by its reference: ``path/to/file.py``, ``path/to/file.py:name`` or ``package.module:name``.

A file is imported as ``python file.py`` would run it, but for ``__name__``: its folder comes first on ``sys.path``,
so that its neighbours can be imported, and it is registered in ``sys.modules`` under its stem unless that is taken.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from velodrome.errors import ObjectiveError, nearest
from velodrome.trials import failures
from velodrome.trials.declaration import Objective, as_objective, declared, is_job_class


class Reference(NamedTuple):
    """A reference taken apart."""

    target: str
    """A path as it was given, or a module's name."""
    name: str
    """The function's name, or ``""``."""
    is_file: bool

    @classmethod
    def parse(cls, ref: str) -> Reference:
        """The parts of ``TARGET[:NAME]``.

        Raises:
            ObjectiveError: If the reference is none.
        """
        target, colon, name = ref.rpartition(":")
        if not colon:
            target, name = ref, ""
        is_file = target.endswith(".py") or "/" in target
        if not target or (colon and not name.isidentifier()) or not (is_file or _is_dotted(target)):
            raise ObjectiveError(
                "An objective's reference is not understood", given=repr(ref),
                allowed="FILE.py, FILE.py:NAME or MODULE:NAME", hint="for example: velo sweep train.py:objective",
            )
        return cls(target, name, is_file)


def load_objective(ref: str, cwd: str) -> tuple[Objective, str]:
    """The objective that ``ref`` means, with relative paths from ``cwd``, and its full reference.

    The full reference has the path from the root and the name, so that it means the same from any folder.

    Raises:
        ObjectiveError: If it can't be found, or if the user's code raised while it was imported (with their traceback).
    """
    reference = Reference.parse(ref)
    module = _import_file(reference.target, cwd) if reference.is_file else _import_module(reference.target, cwd)
    name = reference.name or _pick(module, ref)
    function = getattr(module, name, None)
    if function is None:
        options = _functions(module)
        raise ObjectiveError(
            f"{reference.target} has no {name!r}", given=ref, allowed=_listed(options),
            hint=nearest(name, options) or "name one of its functions",
        )
    if not callable(function):
        raise ObjectiveError(
            f"{name!r} in {reference.target} is no function", given=f"{ref}, which is {type(function).__name__}",
            allowed="a function of a trial",
        )
    target = str((Path(cwd) / reference.target).resolve()) if reference.is_file else reference.target
    return as_objective(function), f"{target}:{name}"


def _import_file(target: str, cwd: str) -> ModuleType:
    """The module of the file, imported now."""
    path = (Path(cwd) / target).resolve()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        folder = path if path.is_dir() else path.parent
        near = sorted(p.name for p in folder.glob("*.py")) if folder.is_dir() else []
        raise ObjectiveError(
            f"The objective's file {what}", given=target, allowed="a Python file",
            hint=nearest(path.name, near) or (f"{folder} has {', '.join(near[:8])}" if near else "check the path"),
        )
    stem = path.stem
    taken = stem in sys.stdlib_module_names or (
        stem in sys.modules and getattr(sys.modules[stem], "__file__", None) != str(path)
    )
    name = f"velo_objective_{stem}" if taken else stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ObjectiveError("The objective's file is no Python file", given=target, allowed="a file that ends in .py")
    _first_on_path(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise _raised(error, target) from None
    return module


def _import_module(target: str, cwd: str) -> ModuleType:
    """The module of that name, imported as from ``cwd``."""
    _first_on_path(cwd)
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name is None or not (target == error.name or target.startswith(error.name + ".")):
            raise _raised(error, target) from None
        raise ObjectiveError(
            f"There is no module {error.name!r}", given=target, allowed="a module on sys.path, or a path to a .py file",
            hint=f"is it a file? velo sweep {target.replace('.', '/')}.py",
        ) from None
    except (Exception, SystemExit) as error:
        raise _raised(error, target) from None


def _raised(error: BaseException, target: str) -> ObjectiveError:
    """The error for user's code that raised while it was imported."""
    failure = failures.of_exception(error, None)
    at = f"{failure.file}:{failure.line}  {failure.code}" if failure.line else target
    hint = "run it by itself: python " + target if target.endswith(".py") else "import it by itself"
    if isinstance(error, SystemExit):
        hint = "put what runs the program under: if __name__ == '__main__':"
    return ObjectiveError(
        f"{target} failed while it was imported: {failure.message}", given=at, hint=hint, traceback=failure.traceback
    )


def _pick(module: ModuleType, ref: str) -> str:
    """The name of the module's objective where none was given."""
    names = _functions(module)
    marked = [n for n in names if declared(getattr(module, n)) is not None]
    if len(marked) == 1:
        return marked[0]
    if not marked:
        usual: list[str] = [n for n in ("train", "objective") if n in names]
        of_trial = [n for n in names if not n.startswith("_") and _takes_trial(getattr(module, n))]
        for options in (usual, of_trial):
            if len(options) == 1:
                return options[0]
        marked = usual or of_trial
    raise ObjectiveError(
        "Several functions could be the objective" if marked else "No function looks like an objective",
        given=ref, allowed=_listed(marked or names),
        hint=f"name it: {ref}:{(marked or names or ['NAME'])[0]}, or mark it with @velo.objective",
    )


def _functions(module: ModuleType) -> list[str]:
    """The module's own functions in the order of the file, then its training jobs."""
    return [
        name for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name == value.__name__
    ] + [
        name for name, value in vars(module).items()
        if declared(value) is not None and not inspect.isfunction(value) and not _is_only_a_base(value, module)
    ]


def _is_only_a_base(value: Any, module: ModuleType) -> bool:
    """Whether it is a class of training jobs that the module imports, or that another one derives from."""
    return is_job_class(value) and (value.__module__ != module.__name__ or bool(value.__subclasses__()))


def _takes_trial(function: Objective) -> bool:
    return list(inspect.signature(function).parameters) == ["trial"]


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "a function of one parameter called trial"


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _first_on_path(folder: str) -> None:
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
