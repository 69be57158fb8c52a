"""How many trials share a GPU, by measurement: the most memory that a kind of trial was seen to use.

The first trial of a kind has a GPU to itself. What it used at most is kept in the ledger, and from then on
``floor(0.9 free / peak)`` trials share the device, each held to its part by CUDA's allocator.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from velodrome.resources.gpus import Gpu
from velodrome.resources.request import ResourceRequest

_WHOLE = 1000
_USABLE = 9, 10
"""Of the free memory: the rest is for CUDA's own needs and for fragmentation."""
MAX_SHARERS = 16
"""More trials than this gain nothing from sharing a GPU, however little memory they need."""


def kind_of(code: bytes, shapes: Mapping[str, Sequence[int]], batch: int, dtype: str) -> str:
    """The name of a kind of trial: those of one kind need the same memory.

    Args:
        code: The objective's source.
        shapes: Of the parameters, by name.
        batch: Examples in a step.
        dtype: Of the activations, such as ``"bfloat16"``.
    """
    known = [hashlib.sha256(code).hexdigest(), sorted((name, list(s)) for name, s in shapes.items()), batch, dtype]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]


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


def memory_fraction(gpu_millis: int) -> float:
    """The part of a GPU's memory that a trial's allocator is held to; 1.0 where it has the GPU to itself."""
    if gpu_millis <= 0 or gpu_millis >= _WHOLE:
        return 1.0
    return gpu_millis / _WHOLE * _USABLE[0] / _USABLE[1]


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
