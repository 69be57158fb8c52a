"""What an executor is: the thing that runs trials, and tells the manager what happens to them.

The calling loop, in the manager::

    info = executor.open(host)                  # the objective is loaded where it will run, and described
    while not done:
        for job in jobs_for(executor.room()):   # at most that many
            executor.launch(job)
        executor.poll(timeout_s)                # calls host.happened(event), host.suggest(...), host.should_stop(...)
    executor.close()                            # every process is gone, and its group; unfinished trials: GivenBack
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from velodrome.resources.slots import Slot
from velodrome.trials.checkpoints import Kept
from velodrome.trials.events import Event
from velodrome.trials.fusing import Choice
from velodrome.types import Params, ParamValue


class Job(NamedTuple):
    """A trial as a worker gets it."""

    number: int
    attempt: int
    seed: int
    params: Params
    checkpoints: tuple[Kept, ...] = ()
    """What it can go on from, the newest first."""
    origin: dict[str, Any] | None = None
    """Where it began from another trial's checkpoint: which one (``lending.Fork.origin``)."""
    batch_divisor: int = 1
    """Into how many parts its batches are cut."""
    apart: str = ""
    """Why it is not to be trained together with others; set by the executor."""


@dataclass(frozen=True, slots=True)
class StudyContext:
    """What the workers of a study must know once, besides its objective.

    Attributes:
        study: The study's name.
        metrics: The goal's metrics; a float that the objective returns is the first.
        asks_verdicts: Whether a scheduler watches: ``trial.should_stop`` then waits for its verdict.
        log_dir: Absolute folder for the workers' output, or ``""`` where it is not kept.
        store_dir: Absolute folder of the store, or ``""`` where there is none to keep checkpoints in.
        files_dir: The study's folder for checkpoints, relative to the store's.
        pauses: Whether the scheduler pauses trials: where a trial's checkpoint and report are level, it asks.
        group_size: How many trials of a training job each worker trains together; 1 for one after another.
    """

    study: str
    metrics: tuple[str, ...]
    asks_verdicts: bool
    log_dir: str
    store_dir: str = ""
    files_dir: str = ""
    pauses: bool = False
    group_size: int = 1


@dataclass(frozen=True, slots=True)
class ObjectiveInfo:
    """What an objective says of itself, as JSON values, so that a controller need not import the user's file.

    Attributes:
        name: The function's name.
        ref: How to load it again (``path.py:name`` or ``module:name``), or ``""`` where that is impossible.
        space: The search space as JSON, or None for a define-by-run objective.
        goal: The goal's text, or None.
        file: The source file, or ``""``.
        on_oom: ``"halve"`` where it knows how to go on with smaller batches, else ``""``.
        fuses: Whether several of its trials can be trained as one model: it is a ``TrainingJob``.
    """

    name: str
    ref: str
    space: dict[str, Any] | None = None
    goal: str | None = None
    file: str = ""
    on_oom: str = ""
    fuses: bool = False


class Host(Protocol):
    """What an executor asks of the manager while it polls."""

    def happened(self, event: Event) -> None:
        """Takes note of an event of a trial: from Reported and Checkpointed to its end, which is one of Returned,
        Quit, Paused, Failed, Lost, Preempted and GivenBack.
        """
        ...

    def suggest(self, number: int, name: str, domain: dict[str, Any]) -> ParamValue:
        """The value for a parameter of a define-by-run trial; ``domain`` is JSON.

        Raises:
            SpaceError: If the domain contradicts what the trial or the study asked before; the trial gets the error.
        """
        ...

    def should_stop(self, number: int) -> bool:
        """Whether the trial, with all it has reported so far, is to stop."""
        ...

    def should_pause(self, number: int) -> bool:
        """Whether the trial, whose last report and newest checkpoint are level, is to leave its worker: ``Paused``."""
        ...

    def should_save(self, number: int, *, at_end: bool) -> bool:
        """Whether a checkpoint of what the trial last reported is of use: it is to pause, or ends and would keep it."""
        ...

    def output(self, number: int, attempt: int, path: str, start: int, end: int) -> None:
        """The trial's output is bytes ``start`` to ``end`` of ``path``."""
        ...


class Executor(Protocol):
    """Runs trials. One objective, one study."""

    runs_here: bool
    """Whether the objective runs in this process and thread, so that Ctrl-C must be raised inside it."""
    gpu_peak_bytes: int
    """The most memory of one GPU that any of its workers has had, as far as that was seen; 0 where it was not."""

    def describe(self) -> ObjectiveInfo:
        """Starts what is needed to load the objective, loads it, and says what it is.

        Raises:
            ObjectiveError: If the user's file is missing or raises; it carries the user's traceback.
        """
        ...

    def open(self, host: Host, context: StudyContext) -> None:
        """Ready to launch. Called once, after ``describe``."""
        ...

    def room(self) -> int:
        """How many more trials can be launched now."""
        ...

    def launch(self, job: Job) -> tuple[str, str]:
        """Hands a trial to a worker; returns the worker's and the device's name."""
        ...

    def stop(self, number: int, reason: str) -> None:
        """Tells a running trial to stop: its ``should_stop`` turns true."""
        ...

    def preempt(self, number: int, reason: str, grace_s: float) -> None:
        """Takes a running trial's place away: the host hears ``Preempted``, unless the trial ends by itself before.

        The trial's ``should_stop`` turns true, and its next checkpoint ends it. After ``grace_s`` its process group
        gets SIGTERM, and a moment later SIGKILL. Its worker's process is ended in any case, for what it holds of a
        device; where the worker still has its slot, another process takes its place.
        """
        ...

    def abandon(self, number: int, event: Event) -> None:
        """Kills the process group of a running trial; the host hears ``event`` as the trial's end."""
        ...

    def held(self) -> list[Slot]:
        """The slots that a process of this executor's may still use something of."""
        ...

    def resize(self, slots: Sequence[Slot], reason: str, leave_s: float, grace_s: float) -> None:
        """Holds these slots from now on, no others: starts workers, and gives others up.

        An idle worker ends at once, a busy one after its trial; what still runs after ``leave_s`` is preempted.
        """
        ...

    def poll(self, timeout_s: float) -> None:
        """Waits for something to happen, at most ``timeout_s``, and tells the host of all that did."""
        ...

    def close(self) -> None:
        """Ends every process at once; the host hears ``GivenBack`` for each unfinished trial. Can be called twice."""
        ...


@runtime_checkable
class Probes(Protocol):
    """An executor whose workers can train several trials of a training job together."""

    def probe(self, configurations: list[Params]) -> Choice:
        """Measures how many of these are best trained together; between ``describe`` and ``open``."""
        ...


@runtime_checkable
class Waits(Protocol):
    """An executor whose workers may have to wait for a place."""

    waits_for: str
    """What they wait for, a sentence; ``""`` where all have their place."""
