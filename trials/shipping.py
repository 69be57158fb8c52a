"""The user's code on its way to a machine that does not have it.

The Python files of the objective's folder travel. A machine that has them all at the same place, byte for byte (a
shared file system, or the same machine), runs them where they are; another one writes them into a folder of its own,
and what is said of them afterwards (references, tracebacks) names the place that the user knows. Data files don't
travel.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import velodrome
from velodrome.errors import UsageError
from velodrome.trials.executor import ObjectiveInfo
from velodrome.trials.loading import Reference
from velodrome.trials.objective import PackedObjective, module_file

MAX_FILES, MAX_BYTES = 2_000, 20 << 20
_INSTALLED = ("site-packages", "dist-packages")
_SKIPPED = {"__pycache__", "node_modules", *_INSTALLED}


@dataclass(frozen=True, slots=True)
class Moved:
    """From where code runs to where the user has it."""

    here: str = ""
    there: str = ""

    def texts(self, *texts: str) -> tuple[str, ...]:
        """The texts with the user's paths in them."""
        return tuple(text.replace(self.here, self.there) for text in texts) if self.here else texts

    def failure(self, failure: dict[str, str | int]) -> dict[str, str | int]:
        """A failure as JSON, with the user's paths."""
        return {name: self.texts(v)[0] if isinstance(v, str) else v for name, v in failure.items()}

    def info(self, info: ObjectiveInfo) -> ObjectiveInfo:
        """What an objective says of itself, with the user's paths."""
        ref, file = self.texts(info.ref, info.file)
        return replace(info, ref=ref, file=file)


@dataclass(frozen=True, slots=True)
class Sources:
    """Python files.

    Attributes:
        root: The folder that they are in, on the machine that they come from; ``""`` where none need to travel.
        files: Path relative to it, and content.
    """

    root: str = ""
    files: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def of(cls, packed: PackedObjective, file: str) -> Sources:
        """What an objective needs, whose function is in ``file``; installed packages are everywhere.

        Raises:
            UsageError: If the folder has too many Python files to be meant.
        """
        root = _root(packed, file)
        if not root or _is_installed(root):
            return cls()
        files, num_bytes = [], 0
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(n for n in folders if _is_code(Path(folder, n)))
            for name in sorted(n for n in names if n.endswith(".py")):
                path = Path(folder, name)
                files.append((str(path.relative_to(root)), path.read_bytes()))
                num_bytes += len(files[-1][1])
                if len(files) > MAX_FILES or num_bytes > MAX_BYTES:
                    raise UsageError(
                        "The objective's folder has too much code to send to other machines", given=root,
                        allowed=f"{MAX_FILES:,} Python files, {MAX_BYTES >> 20} MiB",
                        hint="put the objective into a folder of its own",
                    )
        return cls(root, tuple(files))

    def place(self, packed: PackedObjective, folder: Path) -> tuple[PackedObjective, Moved]:
        """The objective as it can be loaded on this machine: where it is, or from copies in ``folder``."""
        cwd = packed.cwd if Path(packed.cwd).is_dir() else ""
        if all(_has(Path(self.root, name), content) for name, content in self.files):
            return replace(packed, cwd=cwd or str(Path.home())), Moved()
        for name, content in self.files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        moved = Moved(str(folder.resolve()), self.root)
        ref, sys_path = packed.ref, packed.sys_path
        if ref and Reference.parse(ref).is_file:
            target, name = Reference.parse(ref)[:2]
            path = folder / Path(packed.cwd, target).resolve().relative_to(self.root)
            ref = f"{path}:{name}" if name else str(path)
        elif packed.cwd == self.root or not packed.payload:
            cwd = str(folder)
        sys_path = tuple(str(folder) if entry == self.root else entry for entry in sys_path)
        return replace(packed, ref=ref, cwd=cwd or str(folder), sys_path=sys_path), moved


def _root(packed: PackedObjective, file: str) -> str:
    """The folder whose code an objective needs; ``""`` where none is known."""
    if packed.ref and not packed.payload:
        reference = Reference.parse(packed.ref)
        if reference.is_file:
            return str(Path(packed.cwd, reference.target).resolve().parent)
        return _above(module_file(reference.target, [packed.cwd, *sys.path]), reference.target)
    if not file or not Path(file).is_file():
        return ""
    folder = Path(file).resolve().parent
    entries = [Path(entry) for entry in packed.sys_path if entry]
    return str(next((p for p in (folder, *folder.parents) if p in entries), folder))


def _above(file: str, module: str) -> str:
    """The folder on ``sys.path`` that a module's file was found from."""
    if not file:
        return ""
    path = Path(file).absolute()
    depth = len(module.split(".")) - (path.name != "__init__.py")
    return str(path.parents[depth])


def _is_installed(root: str) -> bool:
    ours = Path(velodrome.__file__).resolve().parents[1]
    standard = root.startswith(f"{sys.base_prefix}/lib")
    return standard or Path(root).resolve() == ours or any(name in Path(root).parts for name in _INSTALLED)


def _is_code(folder: Path) -> bool:
    """Whether a folder may hold code of the user's: no hidden one, no environment of installed packages."""
    return not (folder.name.startswith(".") or folder.name in _SKIPPED or (folder / "pyvenv.cfg").exists())


def _has(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False
