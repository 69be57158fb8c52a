"""What runs a study's trials: an executor on the study's share of this machine, or on a Ray cluster, and why so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, TypeVar

from velodrome.errors import UsageError, nearest
from velodrome.options import EXECUTORS, Options
from velodrome.progress import ProgressLine, say
from velodrome.resources.allocator import Plan, plan
from velodrome.resources.opening import Machine, check_priority, find_machine, known_peak, open_share
from velodrome.resources.packing import kind_of, packed, sharing
from velodrome.resources.ray_plan import RayPlan, custom_resources
from velodrome.resources.request import AUTO_GPU, ResourceRequest, format_bytes
from velodrome.resources.share import Share, WholeShare
from velodrome.resources.slots import Slot
from velodrome.search.registry import learns
from velodrome.search.space import Space
from velodrome.trials.executor import Executor
from velodrome.trials.fusing import OFF
from velodrome.trials.leased_share import LeasedShare
from velodrome.trials.objective import ObjectiveSource

_Planned = TypeVar("_Planned", Plan, RayPlan)
_LOOK_EVERY_S = 0.2
"""How often a study that has no slot yet asks for one."""


class Crew(NamedTuple):
    """What runs a study's trials.

    Attributes:
        runner: The executor, with a worker for each slot that there was at the beginning.
        reasons: Why there are so many, and where.
        share: The study's part of the machine, which may grow and shrink; all of its slots where it runs on Ray.
        num_workers: How many workers there are to be.
    """

    runner: Executor
    reasons: tuple[str, ...]
    share: Share
    num_workers: int

    @property
    def elastic(self) -> LeasedShare | None:
        """The share as the manager looks at it; None where it stays what it is."""
        return None if self.runner.runs_here or isinstance(self.share, WholeShare) else LeasedShare(self.share)


@contextmanager
def executor_for(
    source: ObjectiveSource, options: Options, sampler: str, name: str, progress: object = False,
    space: Space | None = None,
) -> Iterator[Crew]:
    """The executor that the options name, on the study's share of the machine; both are gone at the end.

    Where others use all of the machine, it waits for a first slot; with ``progress`` True it says so on stderr.
    A sampler that learns from results gets no trials queued ahead of them. A space that the objective is given, and
    does not declare itself, is a part of what its trials' memory depends on (``packing``).
    """
    if options.executor not in EXECUTORS:
        raise UsageError(
            "No such executor", given=repr(options.executor), allowed=", ".join(EXECUTORS),
            hint=nearest(options.executor, EXECUTORS),
        )
    prefetch = 1 if learns(sampler) else 8
    if options.address and options.executor != "ray":
        raise UsageError("An address is of a Ray cluster", given=f"{options.address!r}, and the executor is "
                         f"{options.executor}", allowed="an address with --executor ray")
    crew = (
        _on_ray(source, options, prefetch) if options.executor == "ray"
        else _on_this_machine(source, options, prefetch, name, _kind(source, space), show=progress is True)
    )
    try:
        yield crew
    finally:
        crew.runner.close()
        if peak_bytes := crew.runner.gpu_peak_bytes:
            crew.share.note_peak(_kind(source, space), peak_bytes)
        crew.share.close()


def _kind(source: ObjectiveSource, space: Space | None) -> str:
    """The kind of the study's trials, as far as GPU memory goes."""
    return kind_of(source.code(), None if space is None else space.to_json())


def _on_this_machine(
    source: ObjectiveSource, options: Options, prefetch: int, name: str, kind: str, *, show: bool
) -> Crew:
    """Workers on the study's share of this machine; waits until there is a place for the first."""
    machine = find_machine()
    request = _request(source, options, machine)
    peak_bytes = None
    fills = options.fuse != OFF and b"TrainingJob" in source.code()  # a GPU with one worker, that trains many together
    if options.executor == "process" and options.workers is None and request.gpu_millis == AUTO_GPU and not fills:
        peak_bytes = known_peak(machine, kind) or 0
    planned = _with_threads(_plan(machine, request, options, peak_bytes), options)
    share, note = open_share(
        machine, planned, name, options.priority, options.threads, gpu_peak_bytes=peak_bytes
    )
    try:
        slots, few = _first_slots(share, len(planned.slots), show=show)
        reasons = (*planned.reasons, *_choices(slots[0], planned, options), *filter(None, (few, note)))
        if options.executor == "process":
            from velodrome.trials.process_executor import ProcessExecutor

            return Crew(ProcessExecutor(source, list(slots), prefetch=prefetch), reasons, share, len(planned.slots))
        from velodrome.trials.inline_executor import InlineExecutor

        return Crew(InlineExecutor(source, slots[0]), reasons, share, 1)
    except BaseException:
        share.close()
        raise


def _on_ray(source: ObjectiveSource, options: Options, prefetch: int) -> Crew:
    """Workers on a Ray cluster, which gives its places out by itself: they are leased from nobody here."""
    check_priority(options.priority)
    from velodrome.trials.ray_cluster import RayCluster, plan_for

    wants_gpu = "gpu" not in options.resources and "torch" in source.pack().preloads
    cores = 1 if options.address else ResourceRequest.parse(options.resources).cpus * (options.workers or 1)
    cluster = RayCluster(options.address, cores)
    try:
        request = ResourceRequest.parse(options.resources, custom_resources(cluster.nodes()))
        request = replace(request, gpu_millis=AUTO_GPU) if wants_gpu else request
        planned = _with_threads(plan_for(cluster, request, options.workers), options)
        from velodrome.trials.ray_executor import RayExecutor

        runner = RayExecutor(source, cluster, planned, prefetch=prefetch, say=say)
        return Crew(runner, planned.reasons, WholeShare(planned.slots), len(planned.slots))
    except BaseException:
        cluster.close()
        raise


def _first_slots(share: Share, wanted: int, *, show: bool) -> tuple[tuple[Slot, ...], str]:
    """The slots to begin with, at least one, and why they are fewer than wanted, or ``""``."""
    line = ProgressLine() if show else None
    try:
        while not (grant := share.update(wanted)).slots:
            if line is not None:
                line.tell(f"waiting for a place on this machine: {grant.waiting}  (velo resources)")
            time.sleep(_LOOK_EVERY_S)
    finally:
        if line is not None:
            line.close()
    num = len(grant.slots)
    return grant.slots, "" if num >= wanted else f"{num} of {wanted} to begin with: {grant.waiting}"


def _request(source: ObjectiveSource, options: Options, machine: Machine) -> ResourceRequest:
    """What a trial asks for. An objective that imports torch gets GPUs where there are some and nothing is said."""
    request = ResourceRequest.parse(options.resources, machine.custom)
    if machine.inventory.gpus and "gpu" not in options.resources and "torch" in source.pack().preloads:
        return replace(request, gpu_millis=AUTO_GPU)
    return request


def _plan(machine: Machine, request: ResourceRequest, options: Options, peak_bytes: int | None) -> Plan:
    """What each worker may use; with as small a part of a GPU as such trials were seen to need, where that is known."""
    if options.executor == "inline":
        planned = plan(machine.inventory, request, 1 if options.workers is None else min(options.workers, 1))
        return replace(planned, reasons=("one trial at a time, in the study's own process: the executor is inline",))
    if not peak_bytes:
        return plan(machine.inventory, request, options.workers)
    part = packed(replace(request, gpu_millis=1000), machine.inventory.gpus, peak_bytes)
    planned = plan(machine.inventory, part)
    return replace(planned, reasons=(sharing(peak_bytes, part), *planned.reasons))


def _with_threads(planned: _Planned, options: Options) -> _Planned:
    """The plan with the number of threads that was asked for."""
    if options.threads is None:
        return planned
    return replace(planned, slots=tuple(replace(slot, threads=options.threads) for slot in planned.slots))


def _choices(first: Slot, planned: Plan, options: Options) -> tuple[str, ...]:
    """What each worker gets of the machine, as the first does, and how to have it otherwise."""
    threads = f"{first.threads} thread{'' if first.threads == 1 else 's'} for each worker's libraries"
    reasons = [
        f"{threads}, as asked" if options.threads is not None else f"{threads}: an even part of the cores (--threads N)"
    ]
    if first.device == "cuda":
        labels = ", ".join(dict.fromkeys(slot.label for slot in planned.slots))
        why = "" if "gpu" in options.resources else ": the objective imports torch (gpu=0)"
        reasons.append(f"trials run on {labels}{why}")
    elif first.env.get("CUDA_VISIBLE_DEVICES") == "":
        why = "as asked" if "gpu=0" in options.resources else "the objective does not import torch (gpu=auto)"
        reasons.append(f"trials run on the CPU, though there are GPUs: {why}")
    if first.memory_bytes:
        limit = f"{format_bytes(first.memory_bytes)} of memory for each worker at most"
        asked = planned.request.memory_bytes
        reasons.append(f"{limit}, as asked" if asked else f"{limit}: nearly all there is (memory=SIZE)")
    return tuple(reasons)
