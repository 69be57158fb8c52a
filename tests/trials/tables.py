"""A trial table to try events on: with a scheduler that stops what is under a half."""

from __future__ import annotations

from typing import Any

from velodrome.search.domains import Float
from velodrome.search.history import History
from velodrome.search.scheduler import Peers, Scheduler
from velodrome.search.space import Space
from velodrome.trials import events as ev
from velodrome.trials.policy import Policy
from velodrome.trials.table import TrialTable
from velodrome.types import Action, Decision, Failure, FailureClass, Goal, Report

GO_ON, STOP, PAUSE = Action.CONTINUE, Action.STOP, Action.PAUSE


class StopsBelow:
    """Stops a trial whose value is under a half; remembers what it saw."""

    needs_reports = True
    pauses = False

    def __init__(self) -> None:
        self.seen: list[Report] = []

    def decide(self, report: Report, peers: Peers) -> Decision | None:
        self.seen.append(report)
        return Decision(GO_ON if report.value >= 0.5 else STOP, f"{report.value} against 0.5")

    def forget(self, number: int, after_step: int | None = None) -> None:
        after = -1 if after_step is None else after_step
        self.seen = [r for r in self.seen if r.number != number or r.step <= after]


def a_table(target: int = 3, policy: Policy = Policy(), scheduler: Scheduler | None = None) -> TrialTable:  # noqa: B008
    history = History(Space(x=Float(0.0, 1.0)), Goal.parse("maximize accuracy"))
    table = TrialTable(history, scheduler or StopsBelow(), policy)
    table.handle(ev.Opened(target))
    return table


def suggest(table: TrialTable, number: int) -> list[Any]:
    return table.handle(ev.Suggested(number, {"x": 0.5}, {}))


def run(table: TrialTable, number: int) -> None:
    suggest(table, number)
    table.handle(ev.Launched(number, "w0", "cpu"))


def failure(kind: FailureClass = FailureClass.USER, line: int = 3) -> dict[str, str | int]:
    return Failure(kind, "boom", "ValueError", "train.py", line).to_json()


def save_checkpoint(table: TrialTable, number: int, step: int, path: str = "", accuracy: float = 0.7) -> list[Any]:
    path = path or f"{number}/{step}"
    return table.handle(ev.Checkpointed(number, step, path, "sha", 10, {"accuracy": accuracy}, step))
