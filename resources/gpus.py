"""The NVIDIA GPUs of this machine, by NVML. No library, no driver or no permission is fine: then there are none."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that this process may use.

    Attributes:
        index: Its number in PCI order, as ``nvidia-smi`` counts.
        uuid: Its name for life, such as ``GPU-4d1b...``.
        name: The product's name.
        memory_bytes: Its memory.
        free_bytes: What of it nobody uses now.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int
    free_bytes: int


def detect_gpus(environ: Mapping[str, str], nvml: Any | None = None) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` leaves to this process, in its order, and a note where there are none.

    Whole GPUs only: a MIG instance named in ``CUDA_VISIBLE_DEVICES`` is not found. A number there counts in PCI
    order; CUDA itself does so only with ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` or where all GPUs are of one kind.

    Args:
        environ: The environment variables to go by.
        nvml: The ``pynvml`` module, or something that acts like it; imported where None.
    """
    try:
        nvml = nvml or importlib.import_module("pynvml")
    except ImportError:
        return (), "no GPUs: the Python package nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), f"no GPUs: {error}"
    try:
        gpus = tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError as error:
        return (), f"no GPUs: NVML failed: {error}"
    finally:
        nvml.nvmlShutdown()
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        chosen = visible_gpus(gpus, visible)
        note = f"no GPUs: CUDA_VISIBLE_DEVICES={visible} hides all {len(gpus)}" if gpus and not chosen else ""
        return chosen, note
    return gpus, "" if gpus else "no GPUs: the driver shows none"


def visible_gpus(gpus: tuple[Gpu, ...], visible: str) -> tuple[Gpu, ...]:
    """The GPUs that a value of ``CUDA_VISIBLE_DEVICES`` names, by CUDA's rules.

    A GPU is named by number or by the beginning of its UUID; the first name that fits no GPU, or not just one, ends
    the list; a GPU named twice makes the whole list void.
    """
    chosen: list[Gpu] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.isdecimal():
            found = [gpu for gpu in gpus if gpu.index == int(entry)]
        else:
            found = [gpu for gpu in gpus if entry and gpu.uuid.startswith(entry)]
        if len(found) != 1:
            break
        if found[0] in chosen:
            return ()
        chosen += found
    return tuple(chosen)


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        index, _as_text(nvml.nvmlDeviceGetUUID(handle)), _as_text(nvml.nvmlDeviceGetName(handle)),
        int(memory.total), int(memory.free),
    )


def _as_text(value: str | bytes) -> str:
    """Older releases of pynvml return bytes."""
    return value.decode() if isinstance(value, bytes) else value
