"""How many trials run at once, and on which device: a pure function of what the machine has and what a trial asks for.

All trials of a study ask for the same. Each GPU then takes as many trials as it takes, in whichever order they are
placed, so the trials are spread, the next one going to the GPU that has the fewest: that is no fewer trials than
packing would run, and each runs faster. Several users or studies on one machine are not seen here: the ledger
(``ledger.py``) says how many of the planned workers there may be at a time, and where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from velodrome.errors import UsageError
from velodrome.resources.gpus import Gpu
from velodrome.resources.inventory import Inventory
from velodrome.resources.packing import memory_part
from velodrome.resources.request import AUTO_GPU, ResourceRequest, format_bytes
from velodrome.resources.slots import Slot

_WHOLE_GPU = 1000
_MEMORY_LIMIT_SHARE = 0.95
"""A CPU trial that says nothing of memory is held to this share of all: a runaway allocation ends as a MemoryError in
its line of code, and not as a kill by the kernel."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who runs where.

    Attributes:
        slots: One for each worker.
        reasons: Why so many, and why there, a sentence each.
        request: What each asks for, ``gpu=auto`` settled.
    """

    slots: tuple[Slot, ...]
    reasons: tuple[str, ...]
    request: ResourceRequest


def plan(inventory: Inventory, request: ResourceRequest, workers: int | None = None) -> Plan:
    """The workers that the machine, or the part of it that is given, is to have.

    Args:
        inventory: What may be used.
        request: What each trial asks for.
        workers: How many trials are to run at once; None for as many as fit.

    Raises:
        UsageError: If not even one trial fits, or the GPUs or the memory are too little for ``workers`` of them.
            Cores can be shared: too few of them is a reason, not an error.
    """
    if workers is not None and workers < 1:
        raise UsageError("A number of workers makes no sense", given=str(workers), allowed="1 or more")
    request, reasons = _settle_gpu(inventory, request, workers)
    places = _place(inventory.gpus, request, workers) if request.gpu_millis else None
    limits = {"cores": max(1, inventory.cpus // request.cpus)}
    if request.memory_bytes:
        limits["memory"] = inventory.available_bytes // request.memory_bytes
        _check_memory(inventory, request, workers)
    if places is not None:
        limits["GPUs"] = len(places)
    scarcest = min(limits, key=lambda name: limits[name])
    if workers is None:
        workers = max(1, limits[scarcest])
        reasons.append(f"{_count(workers, 'worker')}: as many as the {scarcest} allow")
        if limits["cores"] == 1 and request.cpus > inventory.cpus:
            reasons.append(f"a trial asks for {request.cpus} cores and there are {inventory.cpus}: it gets those")
    else:
        reasons.append(f"{_count(workers, 'worker')}, as asked")
    if workers * request.cpus > inventory.cpus and workers > 1:
        reasons.append(
            f"{_count(workers, 'worker')} at {_count(request.cpus, 'core')} each share {inventory.cpus}: each is slower"
        )
    if workers * request.memory_bytes > inventory.available_bytes:
        needed = f"{format_bytes(workers * request.memory_bytes)} may be needed"
        reasons.append(f"{needed}, and {format_bytes(inventory.available_bytes)} are free now")
    threads = max(1, inventory.cpus // workers)
    return Plan(
        tuple(slot(index, threads, inventory, request, places[index] if places else ()) for index in range(workers)),
        tuple(reasons), request,
    )


def slot(index: int, threads: int, inventory: Inventory, request: ResourceRequest, gpus: Sequence[Gpu]) -> Slot:
    """A worker's slot.

    Args:
        index: The worker's number.
        threads: How many threads its libraries may start.
        inventory: The machine.
        request: What a trial asks for.
        gpus: The GPUs that are the worker's, none for the CPU.
    """
    if gpus:
        part = memory_part(request, min(gpu.memory_bytes for gpu in gpus))
        return Slot(
            index, threads, "cuda", "cuda:" + ",".join(str(gpu.index) for gpu in gpus),
            {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in gpus)}, request.memory_bytes, part,
        )
    env = {"CUDA_VISIBLE_DEVICES": ""} if inventory.gpus else {}
    limit_bytes = request.memory_bytes or int(inventory.memory_bytes * _MEMORY_LIMIT_SHARE)
    return Slot(index, threads, env=env, memory_bytes=limit_bytes)


def _settle_gpu(
    inventory: Inventory, request: ResourceRequest, workers: int | None,
) -> tuple[ResourceRequest, list[str]]:
    """The request with ``gpu=auto`` settled: a GPU each, an even part where workers outnumber GPUs, or the CPU."""
    if request.gpu_millis != AUTO_GPU:
        return request, []
    if not inventory.gpus:
        return replace(request, gpu_millis=0, gpu_memory_bytes=0), ["on the CPU: no GPU is here"]
    sharers = -(-(workers or 1) // len(inventory.gpus))
    if sharers == 1:
        return replace(request, gpu_millis=_WHOLE_GPU), ["each trial has a GPU to itself"]
    return replace(request, gpu_millis=max(1, _WHOLE_GPU // sharers)), [f"up to {sharers} trials share a GPU"]


def _place(gpus: tuple[Gpu, ...], request: ResourceRequest, workers: int | None) -> list[tuple[Gpu, ...]]:
    """The GPUs of each worker: ``workers`` of them, or as many as fit."""
    num_each = max(1, request.gpu_millis // _WHOLE_GPU)
    millis_each = min(request.gpu_millis, _WHOLE_GPU)
    free_millis = {gpu.index: _WHOLE_GPU for gpu in gpus}
    free_bytes = {gpu.index: gpu.free_bytes for gpu in gpus}
    places: list[tuple[Gpu, ...]] = []
    while workers is None or len(places) < workers:
        fitting = [
            gpu for gpu in gpus
            if free_millis[gpu.index] >= millis_each and free_bytes[gpu.index] >= request.gpu_memory_bytes
        ]
        if len(fitting) < num_each:
            break
        fitting.sort(key=lambda gpu: (-free_millis[gpu.index], -free_bytes[gpu.index], gpu.index))
        chosen = tuple(sorted(fitting[:num_each], key=lambda gpu: gpu.index))
        for gpu in chosen:
            free_millis[gpu.index] -= millis_each
            free_bytes[gpu.index] -= request.gpu_memory_bytes
        places.append(chosen)
    if len(places) < (workers or 1):
        free = (f"{g.name} with {format_bytes(g.free_bytes)} of {format_bytes(g.memory_bytes)} free" for g in gpus)
        here = ", ".join(free) or "no GPU"
        raise UsageError(
            f"The GPUs have no room for {_count(workers or 1, 'trial')} at once", given=f"{request} for each trial",
            allowed=f"{_count(len(places), 'trial')} at once; here: {here}",
            hint="ask for a smaller part of a GPU, or for gpu=auto" if gpus else "ask for gpu=auto, or for none",
        )
    return places


def _check_memory(inventory: Inventory, request: ResourceRequest, workers: int | None) -> None:
    needed_bytes = request.memory_bytes * (workers or 1)
    if needed_bytes > inventory.memory_bytes:
        raise UsageError(
            f"The machine's memory is too little for {_count(workers or 1, 'trial')} at once",
            given=f"{request} for each trial, {format_bytes(needed_bytes)} in all",
            allowed=f"{format_bytes(inventory.memory_bytes)} in all", hint="ask for less memory or fewer workers",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
