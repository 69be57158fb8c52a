"""A worker on a node of a Ray cluster: an actor that holds a process executor with one worker, and speaks for it.

The actor itself runs no code of the user's. That runs in a process of its own beside it, exactly as without Ray, so
that crashes, memory limits, forks and output are as they are on one machine. The actor passes on what the study's
controller orders (``hear``), and keeps what its trials say until the controller takes it (``news``): many messages for
one call.

Nothing stays on the node's disk: checkpoints and output travel to the controller as bytes, and checkpoints back with
the job that goes on from them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import shutil
import socket
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from velodrome.errors import ObjectiveError, SpaceError, VeloError
from velodrome.resources.inventory import Inventory
from velodrome.resources.slots import Slot
from velodrome.trials import checkpoint_files, failures
from velodrome.trials.events import Checkpointed, Event, Failed, GivenBack, Lost, Paused, Preempted, Quit, Returned
from velodrome.trials.executor import Job, StudyContext
from velodrome.trials.objective import PackedObjective
from velodrome.trials.process_executor import ProcessExecutor
from velodrome.trials.shipping import Moved, Sources
from velodrome.trials.wire import Message
from velodrome.types import ParamValue

# controller -> actor
OPEN, JOB, STOP, PREEMPT, ABANDON, ANSWER, REFUSAL, CLOSE = (
    "open", "job", "stop", "preempt", "abandon", "answer", "refusal", "close")
# actor -> controller
READY, DEPTH, EVENT, CHECKPOINT, OUTPUT, ASK_STOP, ASK_PAUSE, ASK_SAVE, ASK_PARAM, ERROR = (
    "ready", "depth", "event", "checkpoint", "output", "ask_stop", "ask_pause", "ask_save", "ask_param", "error")

LIVE_BYTES = 1 << 20
"""So much of a running trial's output is passed on while it runs; the rest follows at its end."""
_ENDINGS = (Returned, Quit, Paused, Failed, Lost, Preempted, GivenBack)
_TICK_S, _IDLE_TICK_S = 0.25, 2.0
_MEMORY_SHARE = 0.95


class _Closed(Exception):  # noqa: N818 - nothing is wrong
    """The controller is done with this actor."""


@ray.remote(concurrency_groups={"hear": 1, "news": 1})  # type: ignore[call-overload]  # its types lack groups
class RayWorker:
    """One worker of a study. Its methods return at once, but for ``news``.

    Args:
        source: The objective.
        sources: The code that it needs, for a node that does not have it.
        slot: What the worker may use.
        context: The study, where it has begun.
        prefetch: The most trials that the worker may hold, where they are short.
    """

    def __init__(
        self, source: PackedObjective, sources: Sources, slot: Slot, context: StudyContext | None, prefetch: int
    ) -> None:
        self._relay = Relay(source, sources, slot, context, prefetch)

    @ray.method(concurrency_group="hear")
    def hear(self, orders: list[Message]) -> None:
        """Takes orders in."""
        self._relay.orders.put(orders)
        self._relay.wake()

    @ray.method(concurrency_group="news")
    def news(self, patience_s: float) -> list[Message]:
        """What happened since the last call; waits for something, at most so long."""
        return self._relay.take(patience_s)

    @ray.method(concurrency_group="hear")
    def close(self) -> None:
        """Ends the worker, with its group and its files."""
        self._relay.orders.put([(CLOSE,)])
        self._relay.wake()
        self._relay.join(5.0)


class Relay(threading.Thread):
    """The thread that works the process executor; it is the executor's ``Host``."""

    def __init__(
        self, source: PackedObjective, sources: Sources, slot: Slot, context: StudyContext | None, prefetch: int
    ) -> None:
        super().__init__(name="velodrome-relay", daemon=True)
        self.orders: queue.SimpleQueue[list[Message]] = queue.SimpleQueue()
        self._folder = Path(tempfile.mkdtemp(prefix="velodrome-ray-"))
        self._source, self._sources, self._prefetch = source, sources, prefetch
        self._slot, self._context = _limited(slot), context
        self._moved = Moved()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._news: list[Message] = []
        self._fresh = threading.Condition()
        self._answers: list[Message] = []
        self._backlog: list[Job] = []
        self._logs: dict[int, tuple[int, str, int, int]] = {}
        """Of a trial whose output has begun: attempt, file, where it begins, and up to where it is passed on."""
        self._depth = 0
        self.start()

    # --- for the actor's other threads

    def wake(self) -> None:
        """Makes the thread look at its orders; a full pipe has woken it already."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b".")

    def take(self, patience_s: float) -> list[Message]:
        """All that is kept for the controller; waits for the first of it."""
        with self._fresh:
            if not self._news:
                self._fresh.wait(patience_s)
            news, self._news = self._news, []
        return news

    # --- the thread

    def run(self) -> None:
        """Works until it is told to close, or something goes wrong that is no trial's business."""
        executor: ProcessExecutor | None = None
        try:
            packed, self._moved = self._sources.place(self._source, self._folder / "code")
            executor = ProcessExecutor(packed, [self._slot], prefetch=self._prefetch)
            info = executor.describe()
            self._tell((READY, self._moved.info(info), self._slot.device, socket.gethostname()))
            self._await_context()
            executor.open(self, self._local_context())
            while True:
                self._work(executor)
        except _Closed:
            pass
        except ObjectiveError as error:
            self._tell((ERROR, *self._moved.texts(error.what, error.given, error.allowed, error.hint, error.traceback)))
        except VeloError as error:
            self._tell((ERROR, error.what, error.given, error.allowed, error.hint, ""))
        except BaseException as error:
            failure = failures.of_exception(error, None)
            self._tell((ERROR, f"A worker's node failed: {failure.message}", "", "", "", failure.traceback))
        finally:
            if executor is not None:
                executor.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self, executor: ProcessExecutor) -> None:
        """One round: orders out, news in, and sleep until there is more of either."""
        self._obey(executor)
        while self._backlog and executor.ready:
            executor.launch(self._backlog.pop(0))
        executor.poll(0)
        self._pass_output_on()
        if executor.depth != self._depth:
            self._depth = executor.depth
            self._tell((DEPTH, self._depth))
        if not (self._backlog and executor.ready):
            self._sleep(executor.fileno(), _TICK_S if self._logs or executor.sees_off else _IDLE_TICK_S)

    def _obey(self, executor: ProcessExecutor) -> None:
        for order in self._take_orders():
            match order:
                case (str(kind), job, folders) if kind == JOB:
                    checkpoint_files.write_copies(self._folder, folders)
                    self._backlog.append(job)
                case (str(kind), int(number), str(reason)) if kind == STOP:
                    executor.stop(number, reason)
                case (str(kind), int(number), str(reason), grace_s) if kind == PREEMPT:
                    executor.preempt(number, reason, grace_s)
                case (str(kind), int(number), event) if kind == ABANDON:
                    executor.abandon(number, event)

    def _take_orders(self) -> list[Message]:
        """The orders that came; answers are put aside.

        Raises:
            _Closed: If one of them is to close.
        """
        orders: list[Message] = []
        while not self.orders.empty():
            for order in self.orders.get():
                if order[0] == CLOSE:
                    raise _Closed
                (self._answers if order[0] in (ANSWER, REFUSAL) else orders).append(order)
        return orders

    def _sleep(self, fd: int, limit_s: float) -> None:
        fds = [self._wake_read] if fd < 0 else [self._wake_read, fd]
        if self._wake_read in select.select(fds, [], [], limit_s)[0]:
            os.read(self._wake_read, 4096)

    def _await_context(self) -> None:
        while self._context is None:
            for order in self._take_orders():
                if order[0] == OPEN:
                    self._context = order[1]
            if self._context is None:
                self._sleep(-1, _IDLE_TICK_S)

    def _local_context(self) -> StudyContext:
        """The study, with the folders of this node."""
        assert self._context is not None
        logs = str(self._folder / "logs") if self._context.log_dir else ""
        store = str(self._folder) if self._context.store_dir else ""
        return replace(self._context, log_dir=logs, store_dir=store)

    def _tell(self, *messages: Message) -> None:
        with self._fresh:
            self._news += messages
            self._fresh.notify()

    # --- what the process executor asks of its host

    def happened(self, event: Event) -> None:
        """Passes the event on; a checkpoint with its files, which are deleted here."""
        match event:
            case Checkpointed():
                folder = self._folder / event.path
                self._tell((CHECKPOINT, event, checkpoint_files.read(folder)))
                shutil.rmtree(folder, ignore_errors=True)
                return
            case Failed(number, failure):
                event = Failed(number, self._moved.failure(failure))
            case Lost(number, message):
                event = Lost(number, *self._moved.texts(message))
        self._tell((EVENT, event))
        if isinstance(event, _ENDINGS) and self._context is not None and self._context.files_dir:
            self._logs.pop(event.number, None)
            shutil.rmtree(self._folder / self._context.files_dir / f"{event.number:06d}", ignore_errors=True)

    def suggest(self, number: int, name: str, domain: dict[str, Any]) -> ParamValue:
        """Asks the controller, and waits."""
        self._tell((ASK_PARAM, number, name, domain))
        answer = self._answer()
        if answer[0] == REFUSAL:
            _, what, given, allowed, hint = answer
            raise SpaceError(what, given=given, allowed=allowed, hint=hint)
        value: ParamValue = answer[1]
        return value

    def should_stop(self, number: int) -> bool:
        """Asks the controller, and waits."""
        self._tell((ASK_STOP, number))
        return bool(self._answer()[1])

    def should_pause(self, number: int) -> bool:
        """Asks the controller, and waits."""
        self._tell((ASK_PAUSE, number))
        return bool(self._answer()[1])

    def should_save(self, number: int, *, at_end: bool) -> bool:
        """Asks the controller, and waits."""
        self._tell((ASK_SAVE, number, at_end))
        return bool(self._answer()[1])

    def output(self, number: int, attempt: int, path: str, start: int, end: int) -> None:
        """Passes on what the trial printed, or begins to."""
        sent = self._logs[number][3] if number in self._logs else start
        if end < 0:
            self._logs[number] = (attempt, path, start, sent)
            return
        self._logs.pop(number, None)
        self._tell((OUTPUT, number, attempt, _read(path, sent, end), True))

    def _pass_output_on(self) -> None:
        for number, (attempt, path, start, sent) in list(self._logs.items()):
            chunk = _read(path, sent, start + LIVE_BYTES)
            if chunk:
                self._logs[number] = (attempt, path, start, sent + len(chunk))
                self._tell((OUTPUT, number, attempt, chunk, False))

    def _answer(self) -> Message:
        """The controller's answer; other orders that come meanwhile are kept for later."""
        kept: list[Message] = []
        while not self._answers:
            kept += self._take_orders()
            if not self._answers:
                self._sleep(-1, _IDLE_TICK_S)
        if kept:
            self.orders.put(kept)
            self.wake()
        return self._answers.pop(0)


def _limited(slot: Slot) -> Slot:
    """The slot with the usual limit of memory, where none was asked for: nearly all that the node has."""
    if slot.memory_bytes or slot.device != "cpu":
        return slot
    return replace(slot, memory_bytes=int(Inventory.detect().memory_bytes * _MEMORY_SHARE))


def _read(path: str, start: int, end: int) -> bytes:
    try:
        with open(path, "rb") as log:  # noqa: PTH123 - as plain as Path.open
            log.seek(start)
            return log.read(max(0, end - start))
    except OSError:
        return b""
