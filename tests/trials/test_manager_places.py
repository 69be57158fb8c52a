"""The manager: places that come and go, trials that hang on theirs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.fakes import MemoryLog, ScriptedExecutor
from tests.trials.managed import CONTEXT, a_controller, returns_x
from velodrome.clock import FakeClock
from velodrome.resources.slots import Slot
from velodrome.trials.executor import Host, Job
from velodrome.trials.manager import Manager, Outcome
from velodrome.trials.share import Allowance
from velodrome.types import TrialState


class Shared:
    """A share that goes by a list: what may be held at the first look, the second, and so on; the last for good."""

    def __init__(self, *allowances: Allowance) -> None:
        self._allowances = list(allowances)
        self.asked: list[tuple[int, int]] = []

    def adjust(self, held: Sequence[Slot], wanted: int, gpu_peak_bytes: int = 0) -> Allowance:
        self.asked.append((len(held), wanted))
        return self._allowances.pop(0) if len(self._allowances) > 1 else self._allowances[0]


def test_a_study_holds_what_it_may_and_says_why() -> None:
    log, clock = MemoryLog(), FakeClock()
    share = Shared(
        Allowance((Slot(0), Slot(1)), "all is free"), *[Allowance((), "bob has come", 1.0, 2.0)] * 3,
        Allowance((Slot(1),), "bob has gone"),
    )
    seen: list[tuple[int, str]] = []

    def script(host: Host, job: Job) -> None:
        clock.advance(0.05)
        returns_x(host, job)

    executor = ScriptedExecutor(script)
    poll = executor.poll

    def passing(timeout_s: float) -> None:
        clock.advance(0.05)
        poll(timeout_s)

    executor.poll = passing  # type: ignore[method-assign]  # time must pass where nothing runs
    manager = Manager(
        a_controller(log, clock=clock), executor, CONTEXT, target=8, share=share,
        on_progress=lambda p: seen.append((p.finished, p.note)),
    )
    assert manager.run() == Outcome("finished", "")
    assert executor.resized == [
        (2, "all is free", 0.0, 30.0), (0, "bob has come", 1.0, 2.0), (1, "bob has gone", 0.0, 30.0)
    ]
    assert [(d.by, d.action, d.reason) for d in log.decisions] == [
        ("resources", "resize", "2 workers: all is free"), ("resources", "resize", "0 workers: bob has come"),
        ("resources", "resize", "1 worker: bob has gone"),
    ]
    assert "waiting for a place: bob has come" in [note for _, note in seen]
    assert share.asked[0] == (1, 8), "before the first trial is launched"
    assert share.asked[1][0] == 2


def test_a_slot_that_nobody_uses_any_more_is_not_kept_until_the_next_look() -> None:
    share, clock = Shared(Allowance((Slot(0), Slot(1)))), FakeClock()
    looks: list[int] = []

    def script(host: Host, job: Job) -> None:
        looks.append(len(share.asked))
        if job.number == 3:
            del executor.slots[1:]  # the process of a worker that was seen off is gone
        returns_x(host, job)

    executor = ScriptedExecutor(script, places=2)
    Manager(a_controller(MemoryLog(), clock=clock), executor, CONTEXT, target=8, share=share).run()
    assert looks == [1, 1, 1, 1, 2, 2, 2, 2], "the clock stands still: nothing is due"
    assert [held for held, _ in share.asked[:2]] == [2, 1]


def test_a_study_that_waits_for_a_slot_looks_more_often() -> None:
    asked = {}
    for every_s in (0.2, 0.05):
        share, clock = Shared(Allowance((Slot(0), Slot(1)), look_in_s=every_s)), FakeClock()

        def script(host: Host, job: Job, clock: FakeClock = clock) -> None:
            clock.advance(0.06)
            returns_x(host, job)

        Manager(a_controller(MemoryLog(), clock=clock), ScriptedExecutor(script), CONTEXT, target=8, share=share).run()
        asked[every_s] = len(share.asked)
    assert asked[0.05] >= 2 * asked[0.2]


def test_a_trial_that_hangs_is_abandoned_and_fails_at_last() -> None:
    log, clock = MemoryLog(), FakeClock()
    executor = ScriptedExecutor(lambda _host, _job: None)

    def passing(_timeout_s: float) -> None:
        clock.advance(0.5)

    executor.poll = passing  # type: ignore[method-assign]  # nothing is ever heard of a trial
    executor.room = lambda: 1 - controller.table.counts[TrialState.RUNNING]  # type: ignore[method-assign]  # one place
    controller = a_controller(log, clock=clock)
    Manager(controller, executor, CONTEXT, target=1, hung_after_s=10.0).run()
    [row] = log.trials.values()
    assert (row.state, row.failure_class, row.attempt) == ("failed", "hung", 3)
    assert row.failure is not None
    assert "nothing was heard of it for 10.5 s; the limit is 10 s, as given" in row.failure
    assert 30.0 < clock.now() < 40.0


def test_nothing_is_launched_on_a_place_that_the_study_does_not_have_yet() -> None:
    log, clock = MemoryLog(), FakeClock()
    share = Shared(Allowance((), "all is taken"), Allowance((), "all is taken"), Allowance((Slot(0),), "bob has gone"))

    def script(host: Host, job: Job) -> None:
        assert executor.slots
        returns_x(host, job)

    executor = ScriptedExecutor(script)
    poll = executor.poll

    def passing(timeout_s: float) -> None:
        clock.advance(0.2)
        poll(timeout_s)

    executor.poll = passing  # type: ignore[method-assign]  # time must pass where nothing runs
    outcome = Manager(a_controller(log, clock=clock), executor, CONTEXT, target=2, share=share).run()
    assert outcome == Outcome("finished", "")
    assert [row.at for row in log.events if row.kind == "launched"] == pytest.approx([0.4, 0.6])
