"""Studies whose schedulers pause: a space with curves, and a table to try events on."""

from __future__ import annotations

import math
from typing import Any

import velodrome as velo
from velodrome.search.history import History
from velodrome.search.registry import make_scheduler
from velodrome.search.space import Space
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.policy import Policy
from velodrome.trials.simulated_executor import Curve
from velodrome.trials.table import TrialTable
from velodrome.types import Action, Goal

SPACE = Space(x=velo.Float(0.0, 1.0), pace=velo.Float(0.5, 2.0))
GOAL = Goal.parse("minimize loss")


class Bowls:
    """Curves that fall towards the configuration's own level."""

    def curve(self, params: dict[str, Any]) -> Curve:
        x, pace = params["x"], params["pace"]
        metrics = [{"loss": (x - 0.3) ** 2 + 1 / step + 0.1 * math.sin(40 * x + step), "pace": pace}
                   for step in range(1, 13)]
        return Curve(metrics, [pace] * 12)


def a_table(scheduler: str, target: int = 3) -> TrialTable:
    table = TrialTable(History(SPACE, GOAL), make_scheduler(scheduler, GOAL), Policy())
    table.handle(ev.Opened(target))
    return table


def begin(table: TrialTable, number: int, **more: Any) -> None:
    table.handle(ev.Suggested(number, {"x": 0.1 * number, "pace": 1.0}, {}, **more))
    table.handle(ev.Launched(number, "w", "cpu"))


def report(table: TrialTable, number: int, step: int, loss: float) -> list[Any]:
    """A report, and what the controller does about the decision."""
    commands = table.handle(ev.Reported(number, step, {"loss": loss}))
    for command in commands:
        if isinstance(command, cmd.Decide) and command.decision.action is not Action.CONTINUE:
            decision = command.decision
            table.handle(ev.Judged(number, decision.reason, decision.action, decision.parent))
    table.check()
    return commands


def save(table: TrialTable, number: int, step: int) -> list[Any]:
    trial = table.live[number]
    return table.handle(ev.Checkpointed(
        number, step, f"{number}/{step}", "sha", 1, dict(trial.metrics), trial.step
    ))
