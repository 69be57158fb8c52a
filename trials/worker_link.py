"""A worker's end of the pipe: reports are gathered and sent a few milliseconds apart, jobs and answers come in.

Two threads use it: the one that runs trials, and the watcher, which sends what a slow trial left unsent and hands back
jobs that wait behind a long one. A child that the objective forked never speaks here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from velodrome.errors import SpaceError
from velodrome.trials import wire
from velodrome.trials.checkpoints import Written
from velodrome.trials.executor import Job, StudyContext
from velodrome.trials.fusing import Choice
from velodrome.trials.preemption import Preemption
from velodrome.trials.wire import Message, Wire
from velodrome.types import Metrics, Params, ParamValue

_SEND_EVERY_S = 0.005
_TOGETHER_MS = 2
_ANSWER_TICK_MS = 50
"""How long to wait before looking whether the other thread took in the answer."""


class WorkerLink:
    """Implements ``context.Link`` over the job socket."""

    def __init__(self, jobs: Wire) -> None:
        self.context: StudyContext | None = None
        self.stops: dict[int, str] = {}
        self.preemptions: dict[int, Preemption] = {}
        self.num_reports = 0
        """How many reports this worker's trials have made."""
        self._wire = jobs
        self._pid = os.getpid()
        self._queue: deque[Job] = deque()
        self._answers: deque[Message] = deque()
        self._foreseen: dict[int, tuple[bool, bool]] = {}
        self._to_measure: list[list[Params]] = []
        self._pending: list[Message] = []
        self._sent_at = 0.0
        self._send_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._ask_lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(jobs.fileno(), select.POLLIN)

    # --- what the running trial asks for

    def report(self, number: int, step: int, metrics: Metrics) -> None:
        """Keeps the report, and sends what is kept where the last sending is a while ago."""
        self.num_reports += 1
        self._add((wire.REPORTED, number, step, metrics))

    def set_attr(self, number: int, name: str, value: Any) -> None:
        """Keeps the attribute, like a report."""
        self._add((wire.ATTR_SET, number, name, value))

    def checkpointed(self, number: int, step: int, written: Written) -> None:
        """Says at once that there is a checkpoint: until the controller knows, it is of no use."""
        self.tell((wire.CHECKPOINTED, number, step, *written))

    def restored(self, number: int, step: int | None, skipped: list[str]) -> None:
        """Says what the trial goes on from, before anything else of it."""
        self._add((wire.RESTORED, number, step, skipped))

    def suggest(self, number: int, name: str, domain: dict[str, Any]) -> ParamValue:
        """Asks the controller and waits.

        Raises:
            SpaceError: If the controller refuses, or the caller is a forked child.
        """
        if os.getpid() != self._pid:
            raise SpaceError("Only the trial's own process can ask for a parameter", given=repr(name))
        answer = self._ask((wire.ASK_PARAM, number, name, domain))
        if answer[0] == wire.REFUSAL:
            _, what, given, allowed, hint = answer
            raise SpaceError(what, given=given, allowed=allowed, hint=hint)
        value: ParamValue = answer[1]
        return value

    def ask_stop(self, number: int) -> bool:
        """Asks the controller for its verdict on all that was reported, and waits."""
        if (foreseen := self._foreseen.get(number)) is not None:
            return foreseen[0]
        return os.getpid() == self._pid and bool(self._ask((wire.ASK_STOP, number))[1])

    def ask_pause(self, number: int) -> bool:
        """Asks the controller whether the trial is to leave this worker, and waits."""
        return os.getpid() == self._pid and bool(self._ask((wire.ASK_PAUSE, number))[1])

    def ask_save(self, number: int, *, at_end: bool) -> bool:
        """Asks the controller whether a checkpoint is of use, and waits."""
        if (foreseen := self._foreseen.get(number)) is not None:
            return foreseen[1]
        return os.getpid() == self._pid and bool(self._ask((wire.ASK_SAVE, number, at_end))[1])

    def foresee(self, questions: Iterable[tuple[int, bool]]) -> None:
        """Asks at once what ``ask_stop`` and ``ask_save`` are to answer about several trials, until it is called again.

        Args:
            questions: Number, and whether the trial is at its end, of each.
        """
        asked = tuple(questions)
        answers = self._ask((wire.ASK_VERDICTS, asked))[1] if asked else ()
        self._foreseen = {number: answer for (number, _), answer in zip(asked, answers, strict=True)}

    def stop_reason(self, number: int) -> str | None:
        """What the controller sent about the trial without being asked."""
        return self.stops.get(number)

    def preemption(self, number: int) -> Preemption | None:
        """What the controller sent about the trial's place."""
        return self.preemptions.get(number)

    def note(self, number: int, by: str, action: str, reason: str) -> None:
        """Keeps the decision, like a report."""
        self._add((wire.NOTED, number, by, action, reason))

    # --- what the worker does

    def next_job(self) -> Job:
        """The next trial; waits for it."""
        while True:
            with contextlib.suppress(IndexError):  # empty, or the watcher just handed the last one back
                return self._queue.popleft()
            self._take_in()
            if not self._queue:
                self._poll.poll()

    def new_jobs(self, *, wait: bool) -> list[Job]:
        """All trials that have come, for a worker that trains several together; waits for one where it has none.

        Those that were launched together come together: the first is waited for, the others then only a moment.
        """
        jobs: list[Job] = []
        self._take_in()
        while self._queue or (wait and not jobs):
            while self._queue:
                jobs.append(self._queue.popleft())
            self._poll.poll(_TOGETHER_MS if jobs else None)
            self._take_in()
        return jobs

    def wait_for_context(self, measure: Callable[[list[Params]], Choice]) -> StudyContext:
        """The study's context; waits for it, and measures meanwhile what is asked for."""
        while self.context is None:
            self._poll.poll()
            self._take_in()
            if self._to_measure:
                self.tell((wire.PROBED, measure(self._to_measure.pop())))
        return self.context

    def tell(self, *messages: Message) -> None:
        """Sends these at once, after all that is kept."""
        with self._send_lock:
            self._pending += messages
            self._send()

    def keep(self, *messages: Message) -> None:
        """Keeps these for the next sending."""
        with self._send_lock:
            self._pending += messages

    def forget(self, number: int) -> None:
        """Drops what was sent about a trial that is over."""
        self.stops.pop(number, None)
        self.preemptions.pop(number, None)
        self._foreseen.pop(number, None)

    def flush(self) -> None:
        """Sends what is kept, where there is something."""
        if self._pending:
            self.tell()

    def hand_back(self) -> None:
        """Hands every waiting job back to the controller. For the watcher, while a trial runs."""
        self._take_in()
        numbers = []
        while self._queue:
            try:
                numbers.append(self._queue.pop().number)
            except IndexError:  # the other thread just took the last
                break
        if numbers:
            self.tell((wire.UNSTARTED, tuple(reversed(numbers))))

    def _ask(self, question: Message) -> Message:
        with self._ask_lock:
            self.tell(question)
            while not self._answers:
                self._poll.poll(_ANSWER_TICK_MS)
                self._take_in()
            return self._answers.popleft()

    def _add(self, message: Message) -> None:
        if os.getpid() != self._pid:
            return
        with self._send_lock:
            self._pending.append(message)
            if time.monotonic() - self._sent_at >= _SEND_EVERY_S:
                self._send()

    def _send(self) -> None:
        messages, self._pending = self._pending, []
        try:
            self._wire.send(messages)
        except OSError:
            end_group()
        self._sent_at = time.monotonic()

    def _take_in(self) -> None:
        with self._read_lock:
            for message in self._wire.receive():
                match message[0]:
                    case wire.JOB:
                        self._queue.append(Job(*message[1:]))
                    case wire.PROBE:
                        self._to_measure.append(message[1])
                    case wire.OPEN:
                        self.context = message[1]
                    case _:
                        self._answers.append(message)
            if self._wire.at_end:
                end_group()


def end_group() -> NoReturn:
    """Ends this worker with every process that its trials left behind: nobody is there to hear of them."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
