"""Runs trials on a Ray cluster: one actor per worker, in a place of its own, reused from trial to trial.

Core Ray alone: actors and placement groups. The controller talks to each actor with two calls: ``hear`` hands orders
over and waits for nothing; ``news`` is always under way, and returns what has happened as soon as something has. Both
carry many messages, so that short trials don't pay a round trip each. ``trials/ray_worker.py`` is the actor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from velodrome.errors import ObjectiveError, SpaceError, VeloError
from velodrome.resources.ray_plan import RayPlan
from velodrome.resources.request import format_bytes
from velodrome.resources.slots import Slot
from velodrome.trials import checkpoint_files, checkpoints, ray_worker
from velodrome.trials.declaration import place_of
from velodrome.trials.events import Checkpointed, Event, Failed, GivenBack, Lost, Paused, Preempted, Quit, Returned
from velodrome.trials.executor import Host, Job, ObjectiveInfo, StudyContext
from velodrome.trials.objective import ObjectiveSource, PackedObjective
from velodrome.trials.ray_cluster import RayCluster
from velodrome.trials.ray_handle import RayHandle
from velodrome.trials.shipping import Sources
from velodrome.trials.wire import Message

_CLOSE_PATIENCE_S = 5.0
_WAITING_AFTER_S = 3.0
"""So long without a place, and it is said what a worker waits for."""
_MAX_FAILED_STARTS = 3
_ENDINGS = (Returned, Quit, Paused, Failed, Lost, Preempted, GivenBack)


class RayExecutor:
    """One actor per slot of the plan.

    Args:
        source: The objective.
        cluster: Where to run; closed with the executor.
        plan: The workers.
        prefetch: The most trials that a worker may hold, where they are short.
        say: Takes a sentence for the user, before the study has begun.
    """

    runs_here = False
    gpu_peak_bytes = 0

    def __init__(
        self, source: ObjectiveSource, cluster: RayCluster, plan: RayPlan, *, prefetch: int = 8,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.waits_for = ""
        """What the workers without a place wait for; ``""`` where all have one."""
        self._source, self._cluster, self._plan, self._prefetch, self._say = source, cluster, plan, prefetch, say
        self._packed: PackedObjective | None = None
        self._sources = Sources()
        self._info: ObjectiveInfo | None = None
        self._host: Host | None = None
        self._context: StudyContext | None = None
        self._workers: list[RayHandle] = []
        self._running_at: dict[int, RayHandle] = {}
        self._failed_starts = 0
        self._looked_at = 0.0

    # --- the executor's contract

    def describe(self) -> ObjectiveInfo:
        """Starts the first worker, which loads the objective and describes it; waits until there is a place for it."""
        self._packed = self._source.pack()
        if not self._cluster.is_local:
            function = self._source.objective
            self._sources = Sources.of(self._packed, "" if isinstance(function, str) else place_of(function)[0])
        self._spawn(self._plan.slots[0])
        said = ""
        while self._info is None:
            self._wait(0.2)
            if self.waits_for != said:
                said = self.waits_for
                self._say(said)
        return self._info

    def open(self, host: Host, context: StudyContext) -> None:
        """Tells the first worker of the study, and starts the others."""
        self._host, self._context = host, context
        for worker in self._workers:
            worker.log_dir = context.log_dir
            worker.queue((ray_worker.OPEN, context))
        for slot in self._plan.slots[1:]:
            self._spawn(slot)

    def room(self) -> int:
        """One trial per ready worker, a few more where trials are short."""
        return sum(max(0, worker.depth - len(worker.jobs)) for worker in self._workers)

    def launch(self, job: Job) -> tuple[str, str]:
        """Queues the trial for the least busy worker; it goes out with the next ``poll``."""
        assert self._context is not None
        if job.attempt > 1 and self._context.store_dir:
            checkpoints.remove_leftovers(
                self._context.store_dir, self._context.files_dir, job.number, job.checkpoints
            )
        worker = min((w for w in self._workers if w.depth), key=lambda w: len(w.jobs))
        worker.jobs[job.number] = job
        self._running_at[job.number] = worker
        copies = checkpoint_files.read_kept(self._context.store_dir, job.checkpoints) if job.checkpoints else {}
        worker.queue((ray_worker.JOB, job, copies))
        return worker.name, worker.device

    def stop(self, number: int, reason: str) -> None:
        """Tells the trial's worker at once; a trial that is over stays as it is."""
        self._order(number, (ray_worker.STOP, number, reason))

    def preempt(self, number: int, reason: str, grace_s: float) -> None:
        """Takes a trial's place away, on its node; one that waits behind another is left alone."""
        self._order(number, (ray_worker.PREEMPT, number, reason, grace_s))

    def abandon(self, number: int, event: Event) -> None:
        """Has the trial's worker killed on its node; the actor starts another in its place."""
        self._order(number, (ray_worker.ABANDON, number, event))

    def held(self) -> list[Slot]:
        """The plan's slots, with those that wait for a place."""
        return [worker.slot for worker in self._workers]

    def resize(self, slots: Sequence[Slot], reason: str, leave_s: float, grace_s: float) -> None:
        """Does nothing: who gets how much of a cluster is decided by Ray."""

    def poll(self, timeout_s: float) -> None:
        """Sends what is queued, then waits for news."""
        self._wait(timeout_s)

    def close(self) -> None:
        """Ends every actor with its worker, and Ray where it is ours; gives the unfinished trials back."""
        workers, self._workers = self._workers, []
        closing = [worker.actor.close.remote() for worker in workers if worker.started]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_PATIENCE_S)
        for worker in workers:
            worker.settle_output(self._host)
            worker.release()
        unfinished, self._running_at = self._running_at, {}
        if self._host is not None:
            for number, worker in unfinished.items():
                self._host.happened(GivenBack(number, ran=number == next(iter(worker.jobs))))
        self._cluster.close()

    # --- what arrives

    def _wait(self, timeout_s: float) -> None:
        for worker in self._workers:
            worker.send()
        by_ref = {worker.news: worker for worker in self._workers}
        refs = list(by_ref)
        ready, _ = ray.wait(refs, num_returns=1, timeout=timeout_s)
        if ready and len(refs) > 1:
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        for ref in ready:
            self._hear(by_ref[ref])
        if (now := time.monotonic()) - self._looked_at > _WAITING_AFTER_S:
            self._looked_at = now
            self._look_at_waiting()

    def _hear(self, worker: RayHandle) -> None:
        """Takes in what an actor has to tell."""
        try:
            news: list[Message] = ray.get(worker.news)
        except RayTaskError as error:
            raise VeloError(f"A worker's node failed: {error}") from error
        except RayError as error:
            self._worker_died(worker, error)
            return
        worker.ask_for_news()
        worker.started = True
        for message in news:
            self._take(worker, message)

    def _take(self, worker: RayHandle, message: Message) -> None:
        host, kind = self._host, message[0]
        if kind == ray_worker.READY:
            self._info = message[1]
            worker.device = message[2] if self._cluster.is_local else f"{message[2]} of {message[3]}"
        elif kind == ray_worker.DEPTH:
            worker.depth = message[1]
            self._failed_starts = 0
        elif kind == ray_worker.ERROR:
            _, what, given, allowed, hint, text = message
            raise ObjectiveError(what, given=given, allowed=allowed, hint=hint, traceback=text)
        elif host is None:
            return
        elif kind == ray_worker.EVENT:
            self._happened(worker, host, message[1])
        elif kind == ray_worker.CHECKPOINT:
            self._keep(host, message[1], message[2])
        elif kind == ray_worker.OUTPUT:
            worker.output(host, *message[1:])
        elif kind == ray_worker.ASK_STOP:
            worker.queue((ray_worker.ANSWER, host.should_stop(message[1])))
            worker.send()
        elif kind == ray_worker.ASK_PAUSE:
            worker.queue((ray_worker.ANSWER, host.should_pause(message[1])))
            worker.send()
        elif kind == ray_worker.ASK_SAVE:
            worker.queue((ray_worker.ANSWER, host.should_save(message[1], at_end=message[2])))
            worker.send()
        elif kind == ray_worker.ASK_PARAM:
            worker.queue(_suggested(host, *message[1:]))
            worker.send()

    def _order(self, number: int, order: Message) -> None:
        """Hands an order about a running trial to its worker at once."""
        if (worker := self._running_at.get(number)) is not None:
            worker.queue(order)
            worker.send()

    def _happened(self, worker: RayHandle, host: Host, event: Event) -> None:
        if isinstance(event, _ENDINGS):
            del worker.jobs[event.number], self._running_at[event.number]
        host.happened(event)

    def _keep(self, host: Host, event: Checkpointed, files: checkpoint_files.Files) -> None:
        """Writes a checkpoint beside the store, and says so; a full disk leaves the trial with the one before it."""
        assert self._context is not None
        try:
            written = checkpoint_files.receive(self._context.store_dir, event.path, files)
        except OSError as error:
            print(f"velodrome: a checkpoint of trial {event.number} can't be written: {error}", file=sys.stderr)
            return
        host.happened(Checkpointed(event.number, event.step, *written))

    # --- births and deaths

    def _spawn(self, slot: Slot) -> None:
        assert self._packed is not None
        log_dir = self._context.log_dir if self._context is not None else ""
        arguments = (self._packed, self._sources, slot, self._context, self._prefetch)
        self._workers.append(RayHandle(slot, self._plan.bundle, arguments, log_dir))

    def _worker_died(self, worker: RayHandle, error: RayError) -> None:
        """The actor, or its node, is gone: its trial is lost, what waited behind it runs elsewhere."""
        self._workers.remove(worker)
        worker.settle_output(self._host)
        worker.release()
        jobs = list(worker.jobs)
        for number in jobs:
            del self._running_at[number]
            if self._host is not None:
                lost = number == jobs[0]
                self._host.happened(Lost(number, _why(error)) if lost else GivenBack(number, ran=False))
        if not worker.depth:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise VeloError(
                    "The workers on the Ray cluster end before they are ready", given=_why(error),
                    hint="every node needs the same Python, Ray and velodrome; a cluster that asks for no token "
                    "wants RAY_AUTH_MODE=disabled",
                )
        self._spawn(worker.slot)

    def _look_at_waiting(self) -> None:
        """Notes what the workers wait for that have no place yet."""
        now = time.monotonic()
        waiting = [w for w in self._workers if not w.started and now - w.asked_at > _WAITING_AFTER_S]
        self.waits_for = ""
        if waiting and (waiting := [w for w in waiting if not w.has_place()]):
            wanted = ", ".join(f"{_shown(name, amount)}" for name, amount in self._plan.bundle.items())
            free = self._cluster.free()
            there = ", ".join(_shown(name, free.get(name, 0)) for name in self._plan.bundle)
            self.waits_for = (
                f"{len(waiting)} of {len(self._workers)} workers wait for a place on the cluster "
                f"(each asks for {wanted}; free now, over all nodes: {there})"
            )


def _suggested(host: Host, number: int, name: str, domain: dict[str, Any]) -> Message:
    try:
        return (ray_worker.ANSWER, host.suggest(number, name, domain))
    except SpaceError as error:
        return (ray_worker.REFUSAL, error.what, error.given, error.allowed, error.hint)


def _why(error: RayError) -> str:
    """What became of an actor, in a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    if "creation task" in said:
        return f"the worker's actor could not begin: {lines[-1]}"[:300]
    if isinstance(error, ActorUnavailableError):
        return "the worker's node can't be reached any more"
    node = next((line for line in lines if "node" in line.lower() and ("died" in line or "dead" in line)), "")
    return f"the worker's node died: {node}"[:300] if node else f"the worker's actor died: {said}"[:300]


def _shown(name: str, amount: float) -> str:
    return f"{name} {format_bytes(int(amount))}" if name == "memory" else f"{name} {amount:g}"
