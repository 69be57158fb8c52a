"""Puts the parts together: machine, executor, store, table and sampler, for a study that is run or asked by hand."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from velodrome.clock import SystemClock
from velodrome.errors import Interrupted, StudyFailedError, UsageError, nearest
from velodrome.location import files_dir, log_dir
from velodrome.owner import Owner
from velodrome.progress import ProgressLine
from velodrome.records import DecisionRow
from velodrome.resources.allocator import Plan, plan
from velodrome.resources.opening import Machine, check_priority, find_machine, known_peak, open_share
from velodrome.resources.packing import kind_of, packed, sharing
from velodrome.resources.ray_plan import RayPlan, custom_resources
from velodrome.resources.request import AUTO_GPU, ResourceRequest, format_bytes
from velodrome.resources.share import Share, WholeShare
from velodrome.resources.slots import Slot
from velodrome.search.history import History
from velodrome.search.registry import learns, make_sampler, make_scheduler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer
from velodrome.study import Study
from velodrome.trials import checkpoints
from velodrome.trials.controller import Controller
from velodrome.trials.executor import Executor, ObjectiveInfo, Probes, StudyContext
from velodrome.trials.fusing import OFF, Choice, choose
from velodrome.trials.leased_share import LeasedShare
from velodrome.trials.manager import Manager, Outcome, Progress
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.policy import Policy
from velodrome.trials.table import TrialTable
from velodrome.types import Goal

EXECUTORS = ("process", "inline", "ray")
_MAX_HALVINGS = 6
"""A trial that runs out of memory with its batches cut into 64 parts does so for another reason."""
_MOST_MEASURED = 128
"""Trials in a measurement of how many are best trained together."""
_NO_LIMIT = 1_000_000_000
_Planned = TypeVar("_Planned", Plan, RayPlan)
_LOOK_EVERY_S = 0.2
"""How often a study that has no slot yet asks for one."""


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
        priority: How the study stands to others on this machine: ``guaranteed``, ``normal`` or ``opportunistic``.
        fuse: How many trials of a training job each worker trains as one model: ``auto``, ``off`` or a number.
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
    priority: str = "normal"
    fuse: str = "auto"


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

        runner = RayExecutor(source, cluster, planned, prefetch=prefetch, say=_say)
        return Crew(runner, planned.reasons, WholeShare(planned.slots), len(planned.slots))
    except BaseException:
        cluster.close()
        raise


def _say(text: str) -> None:
    with suppress(OSError, ValueError):
        print(f"velodrome: {text}", file=sys.stderr, flush=True)


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
    if options.threads < 1:
        raise UsageError("A number of threads makes no sense", given=str(options.threads), allowed="1 or more")
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


def run(
    crew: Crew, info: ObjectiveInfo, writer: Writer, name: str, target: int, options: Options,
    progress: bool | Callable[[Progress], None], *, take_over: bool = False,
) -> Study:
    """Takes control of the study, runs it, and returns it. ``info`` is what the objective says of itself."""
    line = ProgressLine() if progress is True else None
    controller = _control(writer, name, options, take_over)
    crew.share.rename(controller.study.name)
    writer.update_study(controller.study.id, trials=target)
    for reason in crew.reasons:
        writer.decision(DecisionRow(
            controller.study.id, controller.journal.seq + 1, None, controller.clock.now(), "resources", "plan", reason
        ))
    try:
        group_size = _group_size(crew, controller, target, options, show=progress is True) if info.fuses else 1
    except BaseException as error:
        controller.close(f"stopped before its first trial: {error}".partition("\n")[0], "stopped")
        raise
    context = StudyContext(
        name, controller.table.goal.metrics, controller.table.scheduler.needs_reports, str(log_dir(writer.path, name)),
        str(writer.path.parent), files_dir(writer.path, controller.study.name), controller.table.scheduler.pauses,
        group_size,
    )
    try:
        manager = Manager(
            controller, crew.runner, context, target=target, timeout_s=options.timeout_s,
            on_progress=line or (progress if callable(progress) else None), record_output=writer.artifact,
            share=crew.elastic, hung_after_s=options.hung_after_s,
        )
        outcome = manager.run()
    finally:
        if line is not None:
            line.close()
    return _conclude(controller, outcome, Study(writer.path, name, take_control))


def _group_size(crew: Crew, controller: Controller, target: int, options: Options, *, show: bool) -> int:
    """How many trials each worker is to train together; the choice is kept, and told where it may surprise."""
    space, seed = controller.table.history.space, controller.study.seed

    def measure(most: int) -> Choice:
        assert isinstance(crew.runner, Probes)
        samples = [space.sample(generator(seed, "probe", index)) for index in range(min(most, _MOST_MEASURED))]
        return crew.runner.probe(samples)

    left = max(1, target - controller.table.num_finished)
    choice = choose(
        options.fuse, executor=options.executor, target=left, workers=crew.num_workers,
        learns=learns(controller.study.sampler), measure=measure,
    )
    controller.journal.study_decision("fusion", choice.action, choice.reason)
    if show and choice.surprising:
        _say(f"trials are not trained together: {choice.reason}")
    return choice.size


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
        controller.journal.seq = reader.last_seq(row.id)
        known = [checkpoint.path for checkpoint in reader.all_checkpoints(row.id)]
    store_dir, files = writer.path.parent, files_dir(writer.path, row.name)
    checkpoints.clean(store_dir, files, known)
    controller.journal.on_discard = checkpoints.remover(store_dir, files)
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
