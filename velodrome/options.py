"""How a study's trials are run: what ``velo.sweep`` is told and ``velo.resume`` finds again."""

from __future__ import annotations

from dataclasses import dataclass

from velodrome import arguments

EXECUTORS = ("process", "inline", "ray")


@dataclass(frozen=True, slots=True)
class Options:
    """How a study's trials are run: kept with the study, so that a resume runs them alike.

    Raises:
        UsageError: For a value of the wrong kind; what else does not do is refused where it is used.

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

    def __post_init__(self) -> None:
        arguments.check_texts(
            executor=self.executor, resources=self.resources, address=self.address, priority=self.priority
        )
        for name, least in (("workers", 1), ("threads", 1), ("retries", 0), ("breaker", 0)):
            if (value := getattr(self, name)) is not None:
                arguments.whole(name, value, least)
        arguments.check_seconds(timeout_s=self.timeout_s, hung_after_s=self.hung_after_s)
