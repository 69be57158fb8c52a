"""The trial table: what must hold after any sequence of events, and after its replay."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trials.tables import GO_ON, StopsBelow, a_table, failure
from velodrome.search.domains import Float
from velodrome.search.history import History
from velodrome.search.no_scheduler import NoScheduler
from velodrome.search.scheduler import Scheduler
from velodrome.search.space import Space
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.policy import Policy
from velodrome.trials.table import TrialTable
from velodrome.types import FailureClass, Goal, TrialState


@st.composite
def _stories(draw: st.DrawFn) -> list[tuple[str, int]]:
    verbs = st.sampled_from([
        "next", "report", "low", "return", "nan", "quit", "fail", "lose", "give", "open", "save", "save", "back",
        "preempt", "hang", "oom",
    ])
    return draw(st.lists(st.tuples(verbs, st.integers(0, 3)), max_size=80))


def _play(
    story: list[tuple[str, int]], scheduler: Scheduler | None = None, keep: str = "best"
) -> tuple[TrialTable, list[Any]]:
    """Lets a story happen to a table; returns it and the log of its events."""
    policy = Policy(retries=1, max_losses=2, breaker=3, halvings=1, keep_checkpoints=keep)
    table = a_table(target=8, policy=policy, scheduler=scheduler)
    log: list[Any] = [ev.Opened(8)]

    def happen(event: Any) -> None:
        log.append(event)
        commands = table.handle(event)
        table.check()
        for command in commands:
            if isinstance(command, cmd.Decide) and command.decision.action is not GO_ON:
                happen(ev.Judged(command.number, command.decision.reason, command.decision.action))

    for verb, pick in story:
        running = [n for n, t in table.live.items() if t.state is TrialState.RUNNING]
        if verb == "next":
            command = table.next()
            if isinstance(command, cmd.Suggest):
                happen(ev.Suggested(command.number, {"x": 0.5}, {}))
            elif isinstance(command, cmd.Launch):
                happen(ev.Launched(command.number, "w", "cpu"))
        elif verb == "open":
            happen(ev.Opened(8))
        elif verb == "back" and running:
            trial = table.live[running[pick % len(running)]]
            if trial.checkpoints and trial.attempt > 1:
                steps = [None, *(c.step for c in trial.checkpoints)]
                happen(ev.Restored(trial.number, steps[pick % len(steps)], []))
        elif running:
            number = running[pick % len(running)]
            trial = table.live[number]
            value = {"low": 0.1, "nan": math.nan}.get(verb, 0.8)
            happen({
                "report": ev.Reported(number, pick, {"accuracy": value}),
                "low": ev.Reported(number, pick, {"accuracy": value}),
                "save": ev.Checkpointed(
                    number, pick, f"{number}/{pick}/{len(log)}", "", 1, dict(trial.metrics), trial.step
                ),
                "return": ev.Returned(number, {"accuracy": value}, pick),
                "nan": ev.Returned(number, {"accuracy": value}),
                "quit": ev.Quit(number, "x"), "fail": ev.Failed(number, failure(line=pick)),
                "lose": ev.Lost(number, "x"), "give": ev.GivenBack(number), "preempt": ev.Preempted(number, "x"),
                "hang": ev.Failed(number, failure(FailureClass.HUNG)),
                "oom": ev.Failed(number, failure(FailureClass.OOM)),
            }[verb])
    return table, log


@settings(max_examples=200, deadline=None)
@given(_stories())
def test_invariants_hold_and_a_replay_gives_the_same_table(story: list[tuple[str, int]]) -> None:
    table, log = _play(story)
    again = TrialTable(
        History(Space(x=Float(0.0, 1.0)), Goal.parse("maximize accuracy")), StopsBelow(),
        Policy(retries=1, max_losses=2, breaker=3, halvings=1),
    )
    for event in log:
        again.handle(event)
        again.check()
    assert again.live == table.live
    assert again.counts == table.counts
    assert (again.aborted, again.roster.exhausted, again.roster.next_number) == (
        table.aborted, table.roster.exhausted, table.roster.next_number)
    assert list(map(repr, again.history.finished())) == list(map(repr, table.history.finished()))


@settings(max_examples=200, deadline=None)
@given(_stories())
def test_a_log_without_reports_gives_the_same_table_once_it_is_opened_again(story: list[tuple[str, int]]) -> None:
    """Where no scheduler watches, a replay reads no reports: what goes on from a checkpoint is known all the same."""
    policy = Policy(retries=1, max_losses=2, breaker=3, halvings=1)
    table, log = _play(story, NoScheduler())
    again = TrialTable(History(Space(x=Float(0.0, 1.0)), Goal.parse("maximize accuracy")), NoScheduler(), policy)
    for event in log:
        if not isinstance(event, ev.Reported):
            again.handle(event)
    assert again.handle(ev.Opened(8)) == table.handle(ev.Opened(8))
    assert again.live == table.live


@settings(max_examples=200, deadline=None)
@given(_stories(), st.sampled_from(["best", "2", "all", "none"]))
def test_every_checkpoint_is_there_until_it_is_discarded_and_then_never_asked_for(
    story: list[tuple[str, int]], rule: str
) -> None:
    table, log = _play(story, keep=rule)
    again = TrialTable(
        History(Space(x=Float(0.0, 1.0)), Goal.parse("maximize accuracy")), StopsBelow(),
        Policy(retries=1, max_losses=2, breaker=3, halvings=1, keep_checkpoints=rule),
    )
    files: set[str] = set()
    for event in log:
        if isinstance(event, ev.Checkpointed):
            files.add(event.path)
        for command in again.handle(event):
            if isinstance(command, cmd.Discard):
                files.remove(command.path)
        wanted = [c.path for trial in again.live.values() for c in trial.checkpoints]
        assert files.issuperset(wanted)
        assert len(wanted) <= 2 * len(again.live)
    finished = len(files) - len(wanted) if log else 0
    completed = table.counts[TrialState.COMPLETED]
    assert finished <= {"best": min(1, completed), "2": min(2, completed), "none": 0, "all": table.num_finished}[rule]
