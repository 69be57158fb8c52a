"""A sweep over a table of learning curves, by a clock that jumps: what a scheduler would have done, in milliseconds.

Sampler, scheduler, trial table, controller and manager are those of a real sweep; only training is looked up.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from velodrome.clock import FakeClock
from velodrome.new_study import check_search, check_trials
from velodrome.records import DecisionRow, StudyRow, trial_id
from velodrome.search.history import History
from velodrome.search.registry import make_sampler, make_scheduler
from velodrome.search.space import Space
from velodrome.trials.controller import Controller
from velodrome.trials.executor import StudyContext
from velodrome.trials.journal import Log
from velodrome.trials.manager import Manager
from velodrome.trials.memory_log import MemoryLog
from velodrome.trials.policy import Policy
from velodrome.trials.simulated_executor import Costs, CurveTable, SimulatedExecutor
from velodrome.trials.table import TrialTable
from velodrome.types import Goal, Params, TrialState

_STUDY = 1


@dataclass(frozen=True, slots=True)
class SimulatedTrial:
    """One trial of a simulation.

    Attributes:
        number: From 0.
        params: Its configuration.
        state: Where it was at the end.
        value: The goal's metric of a completed or pruned trial.
        steps: How many steps it made.
        spent_s: How long it was on a worker, in simulated seconds.
        reason: Why it is in its state, where there is more to say.
    """

    number: int
    params: Params
    state: TrialState
    value: float | None
    steps: int
    spent_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Incumbent:
    """A report that was better than all before it, at a moment of the simulated clock (seconds from the start)."""

    at_s: float
    number: int
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Simulation:
    """What came of a simulated sweep.

    Attributes:
        trials: All trials by number.
        incumbents: The reports that were the best so far, in order.
        decisions: What the scheduler decided, in order, with its reasons.
        clock_s: The simulated seconds that it took.
    """

    trials: list[SimulatedTrial]
    incumbents: list[Incumbent]
    decisions: list[DecisionRow]
    clock_s: float


def simulate(
    curves: CurveTable,
    space: Space,
    *,
    goal: str,
    trials: int = 100,
    sampler: str = "random",
    scheduler: str = "asha",
    seed: int = 0,
    workers: int = 8,
    timeout_s: float | None = None,
    costs: Costs | None = None,
    checkpoints: bool = True,
    log: Log | None = None,
) -> Simulation:
    """Runs a sweep over a table of learning curves.

    Args:
        curves: Gives the learning curve of a configuration.
        space: What to search.
        goal: Such as ``"maximize accuracy"``; the metric is one of the curves'.
        trials: How many trials.
        sampler: As for ``sweep``.
        scheduler: As for ``sweep``. With ``pbt``, a trial that goes on from another's checkpoint follows its own
            configuration's curve from that step on: a table knows nothing of the parent's weights.
        seed: Everything random derives from it.
        workers: How many trials run at once.
        timeout_s: Stop after so many simulated seconds.
        costs: What is charged besides training; by default the time that each suggestion really took. Give
            ``Costs(suggest_s=0.0)`` where two runs must be the same.
        checkpoints: Whether trials can be paused; False simulates an objective that makes no checkpoints.
        log: Gets the study's events and rows as they come; kept in memory by default.

    Raises:
        UsageError: For a wrong argument.
    """
    check_trials(trials)
    wanted = Goal.parse(goal)
    check_search(sampler, scheduler, wanted, seed, space)
    memory, clock = MemoryLog(), FakeClock()
    table = TrialTable(History(space, wanted), make_scheduler(scheduler, wanted, seed=seed), Policy())
    row = StudyRow(_STUDY, "simulated", "running", goal, seed, trials, sampler, scheduler, json.dumps(space.to_json()),
                   "", "{}", clock.now())
    controller = Controller(row, table, make_sampler(sampler, seed=seed), memory if log is None else log, clock)
    runner = SimulatedExecutor(curves, clock, workers, costs=costs, checkpoints=checkpoints, limit_s=timeout_s)
    context = StudyContext(row.name, wanted.metrics, table.scheduler.needs_reports, "", pauses=table.scheduler.pauses)
    Manager(controller, runner, context, target=trials, timeout_s=timeout_s, hung_after_s=math.inf).run()
    return _summed_up(memory, wanted, runner.spent_s, clock.monotonic())


def _summed_up(log: MemoryLog, goal: Goal, spent_s: dict[int, float], clock_s: float) -> Simulation:
    steps: dict[int, int] = {}
    incumbents: list[Incumbent] = []
    score = goal.direction.score
    for report in log.reports:
        number = report.trial_id - trial_id(_STUDY, 0)
        steps[number] = max(steps.get(number, 0), report.step)
        is_better = not incumbents or score(report.value) < score(incumbents[-1].value)
        if report.name == goal.metric and is_better and report.value == report.value:
            incumbents.append(Incumbent(report.at, number, report.step, report.value))
    trials = [
        SimulatedTrial(
            n, log.param_values.get(row.id, {}), TrialState(row.state), row.value, steps.get(n, 0), spent_s.get(n, 0.0),
            row.reason or "",
        ) for n, row in sorted(log.trials.items())
    ]
    decisions = [decision for decision in log.decisions if decision.by == "scheduler"]
    return Simulation(trials, incumbents, decisions, clock_s)
