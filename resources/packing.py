"""How many trials share a GPU, by measurement: the most memory that a kind of trial was seen to use.

The first trial of a kind has a GPU to itself. By what it has used after a few reports, ``floor(0.9 free / peak)``
trials share the device, each held to its part by CUDA's allocator; the ledger keeps the peak for the next study.
Where a trial needs more, the peak was too low: it counts as twice the part, fewer share, and the trial starts again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from velodrome.resources.gpus import Gpu
from velodrome.resources.request import ResourceRequest, format_bytes

_WHOLE = 1000
_USABLE = 9, 10
"""Of the free memory: the rest is for CUDA's own needs and for fragmentation."""
_CONTEXT_BYTES = 512 << 20
MAX_SHARERS = 16
"""More trials than this gain nothing from sharing a GPU, however little memory they need."""


def kind_of(code: bytes, sizes: Mapping[str, Any] | None = None) -> str:
    """The name of a kind of trial: those of one kind need about the same memory, as far as that is known beforehand.

    Args:
        code: The objective's source.
        sizes: What it is told of shapes, batch sizes and precision and does not say itself, any JSON by name: the
            domains of its parameters (in a training run, of all settings).
    """
    known = [hashlib.sha256(code).hexdigest(), sizes or {}]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


def num_sharers(free_bytes: int, peak_bytes: int) -> int:
    """How many trials with such a peak share a GPU that has so much free; at least 1, for one must try."""
    if peak_bytes <= 0:
        return 1
    return max(1, min(MAX_SHARERS, free_bytes * _USABLE[0] // _USABLE[1] // peak_bytes))


def packed(request: ResourceRequest, gpus: Sequence[Gpu], peak_bytes: int | None) -> ResourceRequest:
    """The request with a part of a GPU in it, where one GPU was asked for and the peak of such trials is known.

    Args:
        request: What each trial asks for, ``gpu=auto`` settled.
        gpus: The GPUs that there are; the smallest counts.
        peak_bytes: What ``Ledger.peak`` says; None for a kind that was never seen: it gets a GPU to itself.
    """
    if request.gpu_millis != _WHOLE or not gpus or not peak_bytes:
        return request
    sharers = num_sharers(min(gpu.memory_bytes for gpu in gpus), peak_bytes)
    return replace(request, gpu_millis=_WHOLE // sharers)


def needed_after(part: float) -> int:
    """What trials of a kind need, in bytes, of which one ran out of ``part`` of this process's GPU: twice that part.

    As many as share the GPU after that are half as many.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return int(2 * part * torch.cuda.get_device_properties(0).total_memory)


def sharing(peak_bytes: int, request: ResourceRequest) -> str:
    """How many trials share a GPU, and why, for a person to read."""
    seen = f"trials of this objective were seen to use {format_bytes(peak_bytes)} of a GPU's memory"
    if request.gpu_millis == _WHOLE:
        return f"{seen}: each has a GPU to itself"
    return f"{seen}: {_WHOLE // request.gpu_millis} share a GPU (gpu=1 for one each)"


def memory_part(request: ResourceRequest, memory_bytes: int) -> float:
    """The part of a GPU's memory that a trial's allocator is held to; 1 where it has the GPU to itself.

    Args:
        request: What the trial asks for: its part of the GPU, or more memory than that where it says so.
        memory_bytes: The GPU's memory.
    """
    if request.gpu_millis <= 0 or request.gpu_millis >= _WHOLE:
        return 1.0
    usable = request.gpu_millis / _WHOLE * _USABLE[0] / _USABLE[1]
    return min(1.0, max(usable, request.gpu_memory_bytes / max(1, memory_bytes)))


def hold_to(part: float) -> None:
    """Holds CUDA's allocator in this process to a part of each GPU's memory, where the objective uses torch.

    Not handled: an objective that imports torch only once it runs; it is not held to anything.
    """
    torch = sys.modules.get("torch")
    if part < 1.0 and torch is not None and torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(part, device)


def measured_peak() -> int:
    """The most memory, in bytes, that this process has had of any GPU; 0 where it has had none.

    What CUDA's allocator has reserved, and an estimate for CUDA itself, which the allocator does not see.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    reserved = max(int(torch.cuda.max_memory_reserved(device)) for device in range(torch.cuda.device_count()))
    return reserved + _CONTEXT_BYTES if reserved else 0


def is_free(
    gpu: Gpu, gpu_millis: int, gpu_memory_bytes: int, free_bytes: Callable[[Gpu], int | None] | None = None
) -> bool:
    """Whether what a trial needs of a GPU's memory is seen to be free: its last user may be dying still.

    A GPU that can't be asked counts as free.

    Args:
        gpu: Which.
        gpu_millis: The part of it that the trial gets.
        gpu_memory_bytes: The memory that it asks for; 0 where unsaid: then half of its part of all (a screen may
            have some, and a dying process has most).
        free_bytes: Asks how much is free now; NVML where None.
    """
    needed = gpu_memory_bytes or gpu.memory_bytes * min(gpu_millis, _WHOLE) // _WHOLE // 2
    free = (free_bytes or free_gpu_bytes)(gpu)
    return free is None or free >= needed


def free_gpu_bytes(gpu: Gpu, nvml: Any | None = None) -> int | None:
    """What of a GPU's memory nobody uses now, by NVML; None where it can't be asked.

    Args:
        gpu: Which.
        nvml: The ``pynvml`` module, or something that acts like it; imported where None.
    """
    try:
        nvml = nvml or importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)).free)
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()
