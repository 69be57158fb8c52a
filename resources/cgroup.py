"""The limits that a container or a batch system has set on this process: control groups, version 2 and version 1.

A limit may stand at any level between the process's own group and the root, so every level is read and the lowest
limit counts. A container often shows its own group as the root of the mounted tree; levels that do not exist there
are skipped, and the mounted root is always read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes "no limit" as a number near 2**63."""


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """What the control groups allow; None where they set no limit.

    Attributes:
        cpus: Cores' worth of processor time per second of real time, such as 1.5.
        memory_bytes: Memory, page cache included.
        memory_free_bytes: What is left of that, counting page cache that can be dropped as free.
    """

    cpus: float | None = None
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None


def read_limits(root: Path = Path("/")) -> CgroupLimits:
    """The limits on this process.

    Args:
        root: The folder that has ``proc`` and ``sys`` in it.
    """
    cpus: list[float] = []
    limits: list[int] = []
    free: list[int] = []
    for controllers, group in _groups(root / "proc/self/cgroup"):
        mounts = root / "sys/fs/cgroup"
        if not controllers:
            for level in _levels(mounts, group):
                cpus += _cpu_v2(level)
                _add_memory(level, "memory.max", "memory.current", "inactive_file", limits, free)
        if "cpu" in controllers:
            for level in _levels(mounts / "cpu", group):
                cpus += _cpu_v1(level)
        if "memory" in controllers:
            for level in _levels(mounts / "memory", group):
                _add_memory(
                    level, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", limits, free
                )
    return CgroupLimits(min(cpus, default=None), min(limits, default=None), min(free, default=None))


def _groups(path: Path) -> Iterator[tuple[list[str], str]]:
    """The process's groups: the controllers of each (none for version 2) and its path."""
    for line in (_text(path) or "").splitlines():
        match line.split(":", 2):
            case [_, controllers, group]:
                yield [c for c in controllers.split(",") if c], group


def _levels(mount: Path, group: str) -> Iterator[Path]:
    """The folders from the process's group up to the root of the mounted tree."""
    names = [name for name in PurePosixPath(group).parts if name not in ("/", "..")]
    for depth in range(len(names), -1, -1):
        yield mount.joinpath(*names[:depth])


def _cpu_v2(level: Path) -> list[float]:
    match (_text(level / "cpu.max") or "").split():
        case [quota, period] if quota != "max":
            return [int(quota) / int(period)]
    return []


def _cpu_v1(level: Path) -> list[float]:
    quota, period = _number(level / "cpu.cfs_quota_us"), _number(level / "cpu.cfs_period_us")
    return [quota / period] if quota and period and quota > 0 else []


def _add_memory(level: Path, limit: str, usage: str, droppable: str, limits: list[int], free: list[int]) -> None:
    """Adds the level's memory limit to ``limits``, and what is left of it to ``free``."""
    limit_bytes = _number(level / limit)
    if limit_bytes is None or limit_bytes >= _NO_LIMIT_BYTES:
        return
    limits.append(limit_bytes)
    stat = dict(line.split(" ", 1) for line in (_text(level / "memory.stat") or "").splitlines() if " " in line)
    used_bytes = max(0, (_number(level / usage) or 0) - int(stat.get(droppable, "0")))
    free.append(max(0, limit_bytes - used_bytes))


def _number(path: Path) -> int | None:
    text = (_text(path) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
