"""Puts the parts together: machine, executor, store, table and sampler, for a study that is run or asked by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from velodrome.clock import SystemClock
from velodrome.errors import Interrupted, StudyFailedError, UsageError, nearest
from velodrome.location import files_dir, log_dir
from velodrome.owner import Owner
from velodrome.progress import ProgressLine
from velodrome.records import DecisionRow
from velodrome.resources.allocator import Plan, plan
from velodrome.resources.inventory import Inventory
from velodrome.resources.ray_plan import RayPlan
from velodrome.resources.request import AUTO_GPU, ResourceRequest, format_bytes
from velodrome.search.history import History
from velodrome.search.registry import learns, make_sampler, make_scheduler
from velodrome.search.space import Space
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer
from velodrome.study import Study
from velodrome.trials import checkpoints
from velodrome.trials.controller import Controller
from velodrome.trials.executor import Executor, StudyContext
from velodrome.trials.manager import Manager, Outcome, Progress
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.table import Policy, TrialTable
from velodrome.types import Goal

EXECUTORS = ("process", "inline", "ray")
_MAX_HALVINGS = 6
"""A trial that runs out of memory with its batches cut into 64 parts does so for another reason."""
_NO_LIMIT = 1_000_000_000
_Planned = TypeVar("_Planned", Plan, RayPlan)


@dataclass(frozen=True, slots=True)
class Options:
    """How a study's trials are run: kept with the study, so that a resume runs them alike.

    Attributes:
        executor: ``process`` (warm worker processes), ``inline`` (this process: for the debugger) or ``ray``.
        workers: How many trials run at once; None for as many as fit.
        resources: What one trial needs, such as ``"cpus=2,gpu=0.5,memory=4GiB"``.
        retries: How often a trial whose objective failed is started again.
        breaker: The study stops when its first so many trials all fail alike; 0 for never.
        timeout_s: Stop after so many seconds.
        define_by_run: Whether the objective asks for its parameters while it runs.
        keep_checkpoints: Of which finished trials the last checkpoint stays: ``best`` (with several goals the Pareto
            front), a number (the best so many), ``all`` or ``none``.
        threads: How many threads each worker's libraries may start; None for an even part of the cores.
        hung_after_s: After how long without a sign of life a trial is started again; None to learn it.
        on_oom: ``halve`` where the objective knows how to go on with smaller batches.
        address: Of the Ray cluster to join: ``auto`` or ``HOST:PORT``; a Ray of our own where empty.
    """

    executor: str = "process"
    workers: int | None = None
    resources: str = ""
    retries: int = 0
    breaker: int = 5
    timeout_s: float | None = None
    define_by_run: bool = False
    keep_checkpoints: str = "best"
    threads: int | None = None
    hung_after_s: float | None = None
    on_oom: str = ""
    address: str = ""


@contextmanager
def executor_for(
    source: ObjectiveSource, options: Options, sampler: str
) -> Iterator[tuple[Executor, tuple[str, ...]]]:
    """The executor that the options name, over what of the machine they ask for, and why that; gone at the end.

    A sampler that learns from results gets no trials queued ahead of them.
    """
    prefetch = 1 if learns(sampler) else 8
    if options.address and options.executor != "ray":
        raise UsageError("An address is of a Ray cluster", given=f"{options.address!r}, and the executor is "
                         f"{options.executor}", allowed="an address with --executor ray")
    runner: Executor
    match options.executor:
        case "process":
            from velodrome.trials.process_executor import ProcessExecutor

            planned = _with_threads(_plan(source, options), options)
            reasons = planned.reasons + _choices(planned, options)
            runner = ProcessExecutor(source, list(planned.slots), prefetch=prefetch)
        case "inline":
            from velodrome.trials.inline_executor import InlineExecutor

            planned = _with_threads(_plan(source, options), options)
            reasons, runner = planned.reasons + _choices(planned, options), InlineExecutor(source, planned.slots[0])
        case "ray":
            runner, reasons = _on_ray(source, options, prefetch)
        case other:
            raise UsageError(
                "No such executor", given=repr(other), allowed=", ".join(EXECUTORS), hint=nearest(other, EXECUTORS)
            )
    try:
        yield runner, reasons
    finally:
        runner.close()


def _on_ray(source: ObjectiveSource, options: Options, prefetch: int) -> tuple[Executor, tuple[str, ...]]:
    """The Ray executor, joined to its cluster, and why its workers are so many."""
    from velodrome.trials.ray_cluster import RayCluster, plan_for

    request = ResourceRequest.parse(options.resources)
    if "gpu" not in options.resources and "torch" in source.pack().preloads:
        request = replace(request, gpu_millis=AUTO_GPU)
    cluster = RayCluster(options.address, request.cpus * (options.workers or 1))
    try:
        planned = _with_threads(plan_for(cluster, request, options.workers), options)
        from velodrome.trials.ray_executor import RayExecutor

        return RayExecutor(source, cluster, planned, prefetch=prefetch, say=_say), planned.reasons
    except BaseException:
        cluster.close()
        raise


def _say(text: str) -> None:
    with suppress(OSError, ValueError):
        print(f"velodrome: {text}", file=sys.stderr, flush=True)


def _plan(source: ObjectiveSource, options: Options) -> Plan:
    """What each worker may use. An objective that imports torch gets GPUs where there are some and nothing is said."""
    inventory, request = Inventory.detect(), ResourceRequest.parse(options.resources)
    if inventory.gpus and "gpu" not in options.resources and "torch" in source.pack().preloads:
        request = replace(request, gpu_millis=AUTO_GPU)
    if options.executor != "inline":
        return plan(inventory, request, options.workers)
    planned = plan(inventory, request, 1 if options.workers is None else min(options.workers, 1))
    return replace(planned, reasons=("one trial at a time, in the study's own process: the executor is inline",))


def _with_threads(planned: _Planned, options: Options) -> _Planned:
    """The plan with the number of threads that was asked for."""
    if options.threads is None:
        return planned
    if options.threads < 1:
        raise UsageError("A number of threads makes no sense", given=str(options.threads), allowed="1 or more")
    return replace(planned, slots=tuple(replace(slot, threads=options.threads) for slot in planned.slots))


def _choices(planned: Plan, options: Options) -> tuple[str, ...]:
    """What each worker gets of the machine, and how to have it otherwise."""
    first, asked = planned.slots[0], ResourceRequest.parse(options.resources)
    threads = f"{first.threads} thread{'' if first.threads == 1 else 's'} for each worker's libraries"
    reasons = [
        f"{threads}, as asked" if options.threads is not None else f"{threads}: an even part of the cores (--threads N)"
    ]
    if first.device == "cuda":
        labels = ", ".join(dict.fromkeys(slot.label for slot in planned.slots))
        reasons.append(f"trials run on {labels}{'' if asked.gpu_millis else ': the objective imports torch (gpu=0)'}")
    elif first.env.get("CUDA_VISIBLE_DEVICES") == "":
        why = "as asked" if "gpu=0" in options.resources else "the objective does not import torch (gpu=auto)"
        reasons.append(f"trials run on the CPU, though there are GPUs: {why}")
    if first.memory_bytes:
        limit = f"{format_bytes(first.memory_bytes)} of memory for each worker at most"
        reasons.append(f"{limit}, as asked" if asked.memory_bytes else f"{limit}: nearly all there is (memory=SIZE)")
    return tuple(reasons)


def run(
    runner: Executor, writer: Writer, name: str, target: int, options: Options,
    progress: bool | Callable[[Progress], None], *, reasons: Sequence[str], take_over: bool = False,
) -> Study:
    """Takes control of the study, runs it, and returns it. ``reasons`` is why the workers are so many and where."""
    line = ProgressLine() if progress is True else None
    controller = _control(writer, name, options, take_over)
    writer.update_study(controller.study.id, trials=target)
    for reason in reasons:
        writer.decision(DecisionRow(
            controller.study.id, controller.seq + 1, None, controller.clock.now(), "resources", "plan", reason
        ))
    context = StudyContext(
        name, controller.table.goal.metrics, controller.table.scheduler.needs_reports, str(log_dir(writer.path, name)),
        str(writer.path.parent), files_dir(writer.path, controller.study.name), controller.table.scheduler.pauses,
    )
    try:
        manager = Manager(
            controller, runner, context, target=target, timeout_s=options.timeout_s,
            on_progress=line or (progress if callable(progress) else None), record_output=writer.artifact,
            hung_after_s=options.hung_after_s,
        )
        outcome = manager.run()
    finally:
        if line is not None:
            line.close()
    return _conclude(controller, outcome, Study(writer.path, name, take_control))


def _control(writer: Writer, name: str, options: Options, take_over: bool = False) -> Controller:
    """Claims a study and brings a controller up to date with its log."""
    row = writer.claim_study(name, Owner.current(), force=take_over)
    goal = Goal.parse(row.goal)
    space = Space() if options.define_by_run else Space.from_json(json.loads(row.space))
    policy = Policy(
        options.retries, breaker=options.breaker, keep_checkpoints=options.keep_checkpoints,
        halvings=_MAX_HALVINGS if options.on_oom == "halve" else 0,
    )
    table = TrialTable(History(space, goal), make_scheduler(row.scheduler, goal, seed=row.seed), policy)
    controller = Controller(row, table, make_sampler(row.sampler, seed=row.seed), writer, SystemClock())
    with Reader(writer.path) as reader:
        controller.replay(reader.events(row.id, metrics=goal.metrics if table.scheduler.needs_reports else ()))
        controller.seq = reader.last_seq(row.id)
        known = [checkpoint.path for checkpoint in reader.all_checkpoints(row.id)]
    store_dir, files = writer.path.parent, files_dir(writer.path, row.name)
    checkpoints.clean(store_dir, files, known)
    controller.on_discard = checkpoints.remover(store_dir, files)
    return controller


def _conclude(controller: Controller, outcome: Outcome, study: Study) -> Study:
    if outcome.signum:
        raise Interrupted(outcome.signum, study.name)
    if outcome.state == "failed":
        failed = [t.failure for t in study.trials if t.failure is not None]
        raise StudyFailedError(
            f"Study {study.name!r} was stopped: {outcome.note}",
            hint=f"velo why {study.name}  (then mend the objective and: velo resume {study.name})",
            traceback=failed[0].traceback if failed else "",
        )
    return study


def take_control(study: Study) -> Controller:
    """Makes this process the controller of a study that is run by hand."""
    from velodrome.trials import events as ev

    writer = Writer(study.store)
    try:
        controller = _control(writer, study.name, Options(**json.loads(study.row.config)))
        controller.happened(ev.Opened(_NO_LIMIT))
        controller.on_release = writer.close
    except BaseException:
        writer.close()
        raise
    return controller
