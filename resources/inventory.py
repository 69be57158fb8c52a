"""What this machine has for trials: cores, memory and GPUs, as far as this process may use them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velodrome.resources.cgroup import read_limits
from velodrome.resources.gpus import Gpu, detect_gpus


@dataclass(frozen=True, slots=True)
class Inventory:
    """Cores, memory and GPUs.

    Attributes:
        cpus: Cores that this process may use, at least 1.
        memory_bytes: Memory that this process may use at most.
        available_bytes: What of it is free now, or can be made so without swapping.
        gpus: The GPUs that this process may use.
        notes: What limits the figures, a sentence each.
    """

    cpus: int
    memory_bytes: int
    available_bytes: int
    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def detect(
        cls, root: Path = Path("/"), environ: Mapping[str, str] | None = None, affinity: int | None = None,
        nvml: Any | None = None,
    ) -> Inventory:
        """This machine's, within the process's CPU affinity, its control groups and ``CUDA_VISIBLE_DEVICES``.

        Args:
            root: The folder that has ``proc`` and ``sys`` in it.
            environ: Environment variables; this process's where None.
            affinity: The number of cores that the process may run on; asked of the system where None.
            nvml: The ``pynvml`` module, or something that acts like it; imported where None.
        """
        limits = read_limits(root)
        allowed = _affinity() if affinity is None else affinity
        total_bytes, available_bytes = _memory(root)
        gpus, gpu_note = detect_gpus(os.environ if environ is None else environ, nvml)
        cpus, notes = allowed, [gpu_note] if gpu_note else []
        if limits.cpus is not None and limits.cpus < allowed:
            cpus = math.floor(limits.cpus)
            notes.append(f"cores: {allowed} are here, and the control group allows {limits.cpus:g}")
        if limits.memory_bytes is not None and limits.memory_bytes < total_bytes:
            notes.append(f"memory: {total_bytes} bytes are here, and the control group allows {limits.memory_bytes}")
        return cls(
            max(1, cpus), _within(total_bytes, limits.memory_bytes),
            _within(available_bytes, limits.memory_free_bytes), gpus, tuple(notes),
        )


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _within(amount: int, limit: int | None) -> int:
    return amount if limit is None else min(amount, limit)


def _memory(root: Path) -> tuple[int, int]:
    """Total and available memory of the whole machine, in bytes."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        import psutil

        memory = psutil.virtual_memory()
        return int(memory.total), int(memory.available)
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kib["MemTotal"] * 1024, kib.get("MemAvailable", kib["MemFree"]) * 1024
