"""A study whose manager has a log in memory and an executor that goes by a script."""

from __future__ import annotations

from tests.support.fakes import MemoryLog, ScriptedExecutor
from velodrome.clock import FakeClock
from velodrome.records import StudyRow
from velodrome.search.domains import Float
from velodrome.search.history import History
from velodrome.search.registry import make_sampler, make_scheduler
from velodrome.search.space import Space
from velodrome.trials import events as ev
from velodrome.trials.controller import Controller
from velodrome.trials.executor import Host, Job, StudyContext
from velodrome.trials.manager import Manager, Outcome
from velodrome.trials.policy import Policy
from velodrome.trials.table import TrialTable
from velodrome.types import Goal

SPACE = Space(x=Float(0.0, 1.0))
CONTEXT = StudyContext("s", ("value",), False, "")
ROW = StudyRow(1, "s", "running", "minimize value", 7, 5, "random", "none", "{}", "", "{}", 0.0)


def a_controller(
    log: MemoryLog, *, space: Space = SPACE, sampler: str = "random", scheduler: str = "none",
    clock: FakeClock | None = None,
) -> Controller:
    goal = Goal.parse(ROW.goal)
    table = TrialTable(History(space, goal), make_scheduler(scheduler, goal), Policy())
    return Controller(ROW, table, make_sampler(sampler, seed=ROW.seed), log, clock or FakeClock(100.0))


def returns_x(host: Host, job: Job) -> None:
    host.happened(ev.Returned(job.number, {"value": float(job.params["x"] or 0)}))


def run(log: MemoryLog, script: object = returns_x, target: int = 5, **kwargs: object) -> Outcome:
    controller = a_controller(log)
    executor = ScriptedExecutor(script)  # type: ignore[arg-type]  # the tests' scripts are plain functions
    outcome = Manager(controller, executor, CONTEXT, target=target, **kwargs).run()  # type: ignore[arg-type]  # likewise
    assert executor.closed
    return outcome
