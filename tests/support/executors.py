"""An executor driven by hand, and the host that it talks to: what tests of executors are made of."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from velodrome.errors import SpaceError
from velodrome.trials.checkpoints import Kept
from velodrome.trials.events import (
    Checkpointed,
    Event,
    Failed,
    GivenBack,
    Lost,
    Paused,
    Preempted,
    Quit,
    Reported,
    Returned,
)
from velodrome.trials.executor import Executor, Job, ObjectiveInfo, StudyContext
from velodrome.trials.objective import ObjectiveSource
from velodrome.types import Failure, Params, ParamValue

PATIENCE_S = 30.0
ENDINGS = (Returned, Quit, Paused, Failed, Lost, Preempted, GivenBack)


class RecordingHost:
    """A host that writes down what it hears, answers by rule, and stops trials at a step where it is told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.outputs: list[tuple[int, int, str, int, int]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.on_event: Callable[[Event], None] = lambda _: None
        self.stop_at_step: int | None = None
        self.pause_at_step: int | None = None
        self.keeps = False

    def happened(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def suggest(self, number: int, name: str, domain: dict[str, Any]) -> ParamValue:
        if name == "refused":
            raise SpaceError("Parameter 'refused' was a float before", given="int", allowed="float")
        self.asked.append((name, domain))
        value: ParamValue = domain["options"][-1] if domain["type"] == "choice" else domain["low"]
        return value

    def should_stop(self, number: int) -> bool:
        return self.stop_at_step is not None and self.last_step(number) >= self.stop_at_step

    def should_pause(self, number: int) -> bool:
        reported, saved = ([e.step for e in self.of(number) if isinstance(e, k)] for k in (Reported, Checkpointed))
        return self.pause_at_step is not None and reported[-1] == saved[-1] >= self.pause_at_step

    def should_save(self, number: int, *, at_end: bool) -> bool:
        if at_end:
            return self.keeps
        return self.pause_at_step is not None and self.last_step(number) >= self.pause_at_step

    def output(self, number: int, attempt: int, path: str, start: int, end: int) -> None:
        self.outputs.append((number, attempt, path, start, end))

    def last_step(self, number: int) -> int:
        """The step that a trial reported last."""
        return [e.step for e in self.of(number) if isinstance(e, Reported)][-1]

    def of(self, number: int) -> list[Event]:
        """The events of one trial."""
        return [e for e in self.events if getattr(e, "number", None) == number]

    def ending(self, number: int) -> Any:
        """The event that ended a trial, which must be exactly one."""
        [event] = [e for e in self.of(number) if isinstance(e, ENDINGS)]
        return event

    def printed(self, number: int) -> str:
        """What a finished trial printed."""
        path, start, end = [(p, s, e) for n, _, p, s, e in self.outputs if n == number and e >= 0][-1]
        return Path(path).read_bytes()[start:end].decode()


class Running:
    """An executor over an objective, driven by hand."""

    def __init__(self, executor: Executor, host: RecordingHost, info: ObjectiveInfo) -> None:
        self.executor, self.host, self.info = executor, host, info

    def launch(
        self, number: int, params: Params | None = None, attempt: int = 1, checkpoints: tuple[Kept, ...] = (),
        origin: dict[str, Any] | None = None,
    ) -> None:
        """Hands over one trial as soon as there is room."""
        self.until(lambda: self.executor.room() > 0)
        self.executor.launch(Job(number, attempt, 1000 + number, params or {}, checkpoints, origin))

    def until(self, true: Callable[[], bool]) -> None:
        """Polls until something is so."""
        end_at = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end_at, f"nothing came of it; so far: {self.host.events}"
            self.executor.poll(0.05)

    def run(self, number: int, params: Params | None = None) -> Any:
        """Runs one trial to its end and returns the event that ended it."""
        self.launch(number, params)
        self.until(lambda: any(isinstance(e, ENDINGS) for e in self.host.of(number)))
        return self.host.ending(number)

    def failure(self, number: int, params: Params | None = None) -> Failure:
        """Runs one trial that must fail, and returns its failure."""
        event = self.run(number, params)
        assert isinstance(event, Failed), event
        return Failure.from_json(event.failure)


@contextmanager
def opened(
    executor: Executor, folder: Path, *, metrics: tuple[str, ...] = ("score",), asks: bool = False,
    pauses: bool = False, group_size: int = 1,
) -> Iterator[Running]:
    """The executor with its study open, and all files of it in the folder; closed at the end, twice."""
    host = RecordingHost()
    try:
        info = executor.describe()
        executor.open(host, StudyContext(
            "study", metrics, asks, str(folder / "logs"), str(folder), "files/study", pauses, group_size
        ))
        yield Running(executor, host, info)
    finally:
        executor.close()
        executor.close()


def write_objective(tmp_path: Path, body: str) -> Path:
    """A file whose ``train(trial)`` has that body."""
    file = tmp_path / "objective.py"
    file.write_text("def train(trial):\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n")
    return file


class ExecutorTests:
    """What the contracts of executors, a class for each side of them, have in common."""

    def make(self, source: ObjectiveSource, **options: Any) -> Executor:
        """A new executor over the objective."""
        raise NotImplementedError

    @contextmanager
    def running(
        self, tmp_path: Path, body: str | Callable[..., Any], *, metrics: tuple[str, ...] = ("score",),
        asks: bool = False, pauses: bool = False, **options: Any,
    ) -> Iterator[Running]:
        """An open executor over a function, or over a file with that body of ``def train(trial)``."""
        source = ObjectiveSource.of(body if callable(body) else str(write_objective(tmp_path, body)))
        with opened(self.make(source, **options), tmp_path, metrics=metrics, asks=asks, pauses=pauses) as running:
            yield running
