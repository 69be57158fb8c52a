"""What ``velo doctor`` looks at: each check is a value with its finding and what to do about it. Nothing is changed."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from velodrome.errors import NotFoundError, StoreError
from velodrome.resources.inventory import Inventory
from velodrome.resources.request import format_bytes
from velodrome.store.connect import open_readonly
from velodrome.store.filesystem import remote_kind

_TORCH_FLOOR = (2, 10)
"""Older releases run code that a crafted checkpoint brings along, even with ``weights_only=True``."""
_SQLITE_FIXED = (3, 51, 3)
"""Older releases have a rare race between two connections that write and reset a write-ahead log."""
_LEAST_FREE_BYTES = 1024**3
_EXTRAS = {"atari": "ale-py", "mujoco": "mujoco", "box2d": "box2d"}
"""The package by which each extra is known to be installed."""


class Status(StrEnum):
    """How a check went: ``warn`` can be lived with, ``bad`` can't."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        status: How it is.
        detail: What was found.
        advice: What to do; ``""`` where nothing needs doing.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""


def checks(store_path: Path, inventory: Inventory | None = None) -> list[Check]:
    """All checks, in the order in which a person wants to read them.

    Args:
        store_path: The results store to look at; it need not exist.
        inventory: The machine; detected where None.
    """
    inventory = inventory or Inventory.detect()
    return [
        check_python(sys.version_info[:3]),
        check_torch(_version("torch")),
        check_sqlite(sqlite3.sqlite_version_info),
        check_store(store_path),
        check_filesystem(store_path, remote_kind(store_path)),
        check_disk(store_path, shutil.disk_usage(_existing(store_path)).free),
        *check_machine(inventory),
        check_extras({extra: _version(package) for extra, package in _EXTRAS.items()}),
    ]


def check_python(version: tuple[int, int, int]) -> Check:
    """Whether this Python is one that velodrome supports."""
    detail = f"{_dotted(version)} at {sys.executable}"
    if version < (3, 11):
        return Check("python", Status.BAD, detail, "velodrome needs Python 3.11 or newer")
    return Check("python", Status.OK, detail)


def check_torch(version: str | None) -> Check:
    """Whether torch is there, and new enough to load checkpoints safely. It is not imported."""
    if version is None:
        return Check("torch", Status.BAD, "not installed", "pip install 'torch>=2.10'")
    if _numbers(version) < _TORCH_FLOOR:
        return Check(
            "torch", Status.BAD, version,
            "releases before 2.10 run code that a crafted checkpoint brings along: pip install 'torch>=2.10'",
        )
    return Check("torch", Status.OK, version)


def check_sqlite(version: tuple[int, ...]) -> Check:
    """Whether the loaded SQLite has the write-ahead log's race; the store's file lock closes it."""
    if version < _SQLITE_FIXED:
        return Check(
            "sqlite", Status.WARN,
            f"{_dotted(version)}: before {_dotted(_SQLITE_FIXED)} a rare race between writers can corrupt a file",
            "velodrome's file lock prevents it; do not write to the store with other programs while a study runs",
        )
    return Check("sqlite", Status.OK, _dotted(version))


def check_store(path: Path) -> Check:
    """Whether the store can be read and is sound; reads all of it."""
    try:
        with closing(open_readonly(path)) as conn:
            problem = conn.execute("PRAGMA quick_check(1)").fetchone()[0]
            (num_studies,) = conn.execute("SELECT count(*) FROM studies").fetchone()
    except NotFoundError:
        return Check("store", Status.OK, f"{path}: nothing there yet; the first study makes it")
    except StoreError as error:
        return Check("store", Status.BAD, f"{path}: {error.what}", error.hint or "name another with --store")
    except sqlite3.Error as error:
        problem = str(error)
    if problem != "ok":
        advice = f"copy the file, then save what can be saved: sqlite3 '{path}' .recover | sqlite3 saved.db"
        return Check("store", Status.BAD, f"{path}: damaged: {problem}", advice)
    studies = f"{num_studies} {'study' if num_studies == 1 else 'studies'}"
    return Check("store", Status.OK, f"{path}: sound, {format_bytes(path.stat().st_size)}, {studies}")


def check_filesystem(store_path: Path, remote: str) -> Check:
    """Whether the store lies on a local disk; ``remote`` is the kind of network file system, ``""`` for none."""
    if remote:
        return Check(
            "filesystem", Status.BAD, f"{store_path} lies on {remote}, where SQLite can lose or damage data",
            "put the store on a local disk: --store PATH",
        )
    return Check("filesystem", Status.OK, "local")


def check_disk(store_path: Path, free_bytes: int) -> Check:
    """Whether the store's disk has room."""
    detail = f"{format_bytes(free_bytes)} free where the store is"
    if free_bytes < _LEAST_FREE_BYTES:
        return Check("disk", Status.WARN, detail, f"make room there, or name another place with --store ({store_path})")
    return Check("disk", Status.OK, detail)


def check_machine(inventory: Inventory) -> Iterator[Check]:
    """Cores, memory and GPUs, as far as this process may use them."""
    yield Check("cores", Status.OK, _noted(str(inventory.cpus), inventory, "cores"))
    free, total = format_bytes(inventory.available_bytes), format_bytes(inventory.memory_bytes)
    yield Check("memory", Status.OK, _noted(f"{free} of {total} free", inventory, "memory"))
    if not inventory.gpus:
        yield Check("gpus", Status.OK, _noted("none", inventory, "no GPUs"))
    for gpu in inventory.gpus:
        memory = f"{format_bytes(gpu.free_bytes)} of {format_bytes(gpu.memory_bytes)} free"
        yield Check(f"gpu {gpu.index}", Status.OK, f"{gpu.name}, {memory}, {gpu.uuid}")


def check_extras(versions: dict[str, str | None]) -> Check:
    """Which optional parts are installed."""
    here = [f"{extra} {version}" for extra, version in versions.items() if version]
    missing = [extra for extra, version in versions.items() if not version]
    advice = f"to add them: pip install 'velodrome[{','.join(missing)}]'" if missing else ""
    return Check("extras", Status.OK, f"installed: {', '.join(here) or 'none'}", advice)


def _noted(detail: str, inventory: Inventory, topic: str) -> str:
    """The detail with the inventory's notes on its topic."""
    return "; ".join([detail, *(note for note in inventory.notes if note.startswith(topic))])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The release's first two numbers: ``(2, 13)`` of ``"2.13.0+cpu"``."""
    return tuple(int("".join(filter(str.isdecimal, part)) or 0) for part in version.split("+")[0].split(".")[:2])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
