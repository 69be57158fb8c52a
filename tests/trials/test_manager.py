"""The controller and the manager: a study from its first event to its last, over a log in memory."""

from __future__ import annotations

import json
import math
import os
import signal

import pytest

from tests.support.fakes import MemoryLog, ScriptedExecutor
from tests.trials.managed import CONTEXT, a_controller, returns_x, run
from velodrome.clock import FakeClock
from velodrome.errors import StoreFullError
from velodrome.search.domains import Choice, Float
from velodrome.search.space import Space
from velodrome.trials import events as ev
from velodrome.trials.executor import Host, Job
from velodrome.trials.manager import Manager, Outcome
from velodrome.types import TrialState


def test_a_study_runs_to_its_end_and_all_of_it_is_in_the_log() -> None:
    log = MemoryLog()
    assert run(log) == Outcome("finished", "")
    assert [row.state for row in log.trials.values()] == ["completed"] * 5
    assert [row.kind for row in log.events] == ["opened", *["suggested", "launched", "returned"] * 5, "closed"]
    assert [row.seq for row in log.events] == list(range(1, 18))
    assert log.study["state"] == "finished"
    assert all(row.value == log.param_values[row.id]["x"] == row.score for row in log.trials.values())


def test_the_same_seed_gives_the_same_log() -> None:
    first, second = MemoryLog(), MemoryLog()
    run(first)
    run(second)
    assert first.events == second.events


def test_a_replayed_log_gives_the_same_table_and_goes_on() -> None:
    log = MemoryLog()
    run(log, target=3)
    again = a_controller(log)
    again.replay(iter(log.events))
    again.journal.seq = log.events[-1].seq
    assert again.table.num_finished == 3
    assert again.best == min(((n, r.value) for n, r in log.trials.items()), key=lambda pair: pair[1])  # type: ignore[arg-type]  # all have values
    Manager(again, ScriptedExecutor(returns_x), CONTEXT, target=5).run()
    straight = MemoryLog()
    run(straight, target=5)
    assert [log.trials[n].value for n in range(5)] == [straight.trials[n].value for n in range(5)]
    assert [row.seq for row in log.events] == list(range(1, len(log.events) + 1))


def test_a_trial_keeps_the_time_of_its_suggestion_over_a_resume() -> None:
    log, clock = MemoryLog(), FakeClock(100.0)
    controller = a_controller(log, clock=clock)
    controller.happened(ev.Opened(1))
    launch = controller.next()
    assert launch is not None
    controller.happened(ev.Launched(0, "w", "cpu"))
    controller.commit()
    later = FakeClock(500.0)
    again = a_controller(log, clock=later)
    again.replay(iter(log.events))
    Manager(again, ScriptedExecutor(returns_x), CONTEXT, target=1).run()
    assert (log.trials[0].created_at, log.trials[0].started_at, log.trials[0].attempt) == (100.0, 500.0, 2)


def test_reports_wait_for_the_commit_and_need_no_fsync() -> None:
    log, clock = MemoryLog(), FakeClock()
    controller = a_controller(log, clock=clock)
    controller.happened(ev.Opened(1))
    controller.next()
    controller.happened(ev.Launched(0, "w", "cpu"))
    controller.commit()
    controller.happened(ev.Reported(0, 1, {"value": 0.5, "loss": math.nan}))
    controller.commit(only_if_due=True)
    assert log.metric_rows == []
    clock.advance(1.0)
    controller.commit(only_if_due=True)
    assert [(r.name, r.step, r.seq) for r in log.metric_rows] == [("value", 1, 4), ("loss", 1, 4)]
    assert log.durable == [True, False]


def test_the_last_report_is_the_result_of_an_objective_that_returns_none() -> None:
    log = MemoryLog()

    def script(host: Host, job: Job) -> None:
        host.happened(ev.Reported(job.number, 3, {"value": 0.25, "loss": 1.0}))
        host.happened(ev.Returned(job.number, {}))

    run(log, script, target=1)
    assert (log.trials[0].value, json.loads(log.trials[0].metrics)) == (0.25, {"value": 0.25, "loss": 1.0})
    returned = next(row for row in log.events if row.kind == "returned")
    assert json.loads(returned.data) == [{"value": 0.25, "loss": 1.0}, 3], "the log stands without its reports"


def test_figures_that_are_not_finite_are_valid_json_for_sqlite_and_survive_a_replay() -> None:
    log = MemoryLog()

    def script(host: Host, job: Job) -> None:
        host.happened(ev.Returned(job.number, {"value": math.nan, "loss": -math.inf, "other": math.inf}))

    run(log, script, target=1)
    assert log.trials[0].metrics == '{"value":null,"loss":-1e999,"other":1e999}'
    assert log.trials[0].failure_class == "diverged"
    again = a_controller(log)
    again.replay(iter(log.events))
    assert again.table.counts[TrialState.FAILED] == 1


def test_no_trial_starts_from_a_configuration_that_was_tried_where_another_is_left() -> None:
    log = MemoryLog()
    space = Space(a=Choice(*range(4)), b=Choice("x", "y"))
    controller = a_controller(log, space=space)
    script = ScriptedExecutor(lambda host, job: host.happened(ev.Returned(job.number, {"value": 1.0})))
    Manager(controller, script, CONTEXT, target=10).run()
    tried = [tuple(sorted(params.items())) for params in log.param_values.values()]
    assert len(set(tried[:8])) == 8
    assert [d.action for d in log.decisions] == ["duplicate"] * 2, "the last two had no other"


def test_a_grid_that_is_walked_ends_the_study() -> None:
    log = MemoryLog()
    controller = a_controller(log, space=Space(a=Choice(1, 2, 3)), sampler="grid")
    script = ScriptedExecutor(lambda host, job: host.happened(ev.Returned(job.number, {"value": 1.0})))
    outcome = Manager(controller, script, CONTEXT, target=10).run()
    assert outcome.state == "finished"
    assert outcome.note
    assert len(log.trials) == 3


def test_a_scheduler_stops_trials_and_its_reasons_are_kept() -> None:
    log = MemoryLog()
    controller = a_controller(log, scheduler="asha:min_steps=1,reduction=2,type=stop")
    verdicts: list[bool] = []

    def script(host: Host, job: Job) -> None:
        host.happened(ev.Reported(job.number, 1, {"value": float(job.number)}))
        verdicts.append(host.should_stop(job.number))
        host.happened(ev.Returned(job.number, {"value": float(job.number)}))

    executor = ScriptedExecutor(script)
    Manager(controller, executor, CONTEXT, target=5).run()
    assert True in verdicts
    assert executor.stopped == [n for n, stop in enumerate(verdicts) if stop]
    assert [row.state for row in log.trials.values()] == ["pruned" if stop else "completed" for stop in verdicts]
    assert all(row.reason for row in log.trials.values() if row.state == "pruned")
    assert {row.action for row in log.decisions} == {"stop", "continue"}


def test_a_checkpoint_is_deleted_only_when_the_log_knows_that_it_is_not_needed() -> None:
    log, clock = MemoryLog(), FakeClock()
    controller = a_controller(log, clock=clock)
    deleted: list[str] = []
    controller.journal.on_discard = deleted.append
    controller.happened(ev.Opened(1))
    controller.next()
    controller.happened(ev.Launched(0, "w", "cpu"))
    for step in range(1, 4):
        controller.happened(ev.Checkpointed(0, step, f"s/{step}", "sha", 10))
    log.is_full = True
    with pytest.raises(StoreFullError):
        controller.commit()
    assert deleted == []
    log.is_full = False
    controller.commit()
    assert deleted == ["s/1"]
    assert [(row.step, row.path) for row in log.checkpoints] == [(2, "s/2"), (3, "s/3")]
    controller.happened(ev.Returned(0, {"value": 0.5}))
    assert deleted == ["s/1"]
    controller.commit()
    assert deleted == ["s/1", "s/2"]
    assert [row.path for row in log.checkpoints] == ["s/3"], "the best trial keeps its last"


def test_a_trial_goes_on_from_its_checkpoint_after_a_resume_and_a_damaged_one_is_a_decision() -> None:
    log = MemoryLog()
    jobs: list[Job] = []

    def first(host: Host, job: Job) -> None:
        for step in (1, 2, 3):
            host.happened(ev.Reported(job.number, step, {"value": step / 10, "loss": math.inf}))
            if step < 3:
                host.happened(ev.Checkpointed(job.number, step, f"s/{step}", "sha", 10))
        host.happened(ev.GivenBack(job.number))
        os.kill(os.getpid(), signal.SIGTERM)

    def second(host: Host, job: Job) -> None:
        jobs.append(job)
        host.happened(ev.Restored(job.number, 1, ["the checkpoint of step 2 is damaged: oh"]))
        host.happened(ev.Returned(job.number, {}))

    run(log, first, target=1)
    assert [row.step for row in log.metric_rows if row.name == "value"] == [1, 2]
    again = a_controller(log)
    again.replay(iter(log.events))
    again.journal.seq = log.events[-1].seq
    deleted: list[str] = []
    again.journal.on_discard = deleted.append
    Manager(again, ScriptedExecutor(second), CONTEXT, target=1).run()
    assert [(c.step, c.path) for c in jobs[0].checkpoints] == [(2, "s/2"), (1, "s/1")]
    assert [row.step for row in log.metric_rows if row.name == "value"] == [1]
    assert (log.trials[0].value, json.loads(log.trials[0].metrics)) == (0.1, {"value": 0.1, "loss": math.inf})
    [decision] = log.decisions
    assert (decision.by, decision.action) == ("manager", "skip checkpoint")
    assert decision.reason == "the checkpoint of step 2 is damaged: oh; went on from that of step 1"
    assert deleted == ["s/2"]


def test_a_define_by_run_trial_gets_its_parameters_one_by_one() -> None:
    log = MemoryLog()
    controller = a_controller(log, space=Space())
    domain = Float(0.0, 2.0).to_json()
    seen: list[tuple[float, float]] = []

    def script(host: Host, job: Job) -> None:
        first = host.suggest(job.number, "x", domain)
        again = host.suggest(job.number, "x", domain)
        seen.append((float(first or 0), float(again or 0)))
        host.happened(ev.Returned(job.number, {"value": float(first or 0)}))

    Manager(controller, ScriptedExecutor(script), CONTEXT, target=3).run()
    assert all(first == again for first, again in seen)
    assert len({first for first, _ in seen}) == 3
    assert [p["x"] for p in log.param_values.values()] == [first for first, _ in seen]
    replayed = a_controller(log, space=Space())
    replayed.replay(iter(log.events))
    assert [t.params for t in replayed.table.history.finished()] == [{"x": first} for first, _ in seen]


def test_what_a_trial_notes_is_a_decision() -> None:
    log = MemoryLog()

    def script(host: Host, job: Job) -> None:
        host.happened(ev.Noted(job.number, "rl", "precision", "bfloat16: twice as fast here"))
        returns_x(host, job)

    run(log, script, target=1)
    [decision] = log.decisions
    assert (decision.by, decision.action, decision.reason) == ("rl", "precision", "bfloat16: twice as fast here")
    assert decision.trial_id == log.trials[0].id
