"""What every executor must do with a training job, whether it trains its trials one by one or together.

Subclass ``JobContract`` and say how to make the executor; one serves all tests of the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.executors import ENDINGS, Running, opened
from tests.support.lines import Lines
from velodrome.trials.checkpoints import Kept
from velodrome.trials.events import (
    Checkpointed,
    Event,
    Failed,
    GivenBack,
    Lost,
    Noted,
    Paused,
    Preempted,
    Reported,
    Restored,
    Returned,
)
from velodrome.trials.executor import Executor
from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.member import Member
from velodrome.trials.objective import ObjectiveSource
from velodrome.types import Failure, FailureClass, Params

LINES = str(Path(__file__).parents[1] / "support" / "lines.py")
NUM_EPOCHS = 4
PARAMS: list[Params] = [
    {"lr": 0.02, "width": 6, "batch_size": 8}, {"lr": 0.05, "width": 9, "batch_size": 12},
    {"lr": 0.1, "width": 7, "batch_size": 8},
]


def alone(number: int, params: Params) -> list[tuple[int, dict[str, float]]]:
    """What the trial reports when the engine trains it by itself."""
    member, found = Alone(Lines(), Member(number, params, 1000 + number)), []
    while not member.is_done:
        found.append((member.advance(), member.evaluate()))
    return found


def reports(running: Running, number: int) -> list[tuple[int, dict[str, float]]]:
    return [(e.step, e.metrics) for e in running.host.of(number) if isinstance(e, Reported)]


def assert_same(found: list[tuple[int, dict[str, float]]], expected: list[tuple[int, dict[str, float]]]) -> None:
    assert [step for step, _ in found] == [step for step, _ in expected]
    for (_, a), (_, b) in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)


def saved(running: Running, number: int) -> tuple[Kept, ...]:
    """The trial's checkpoints, the newest first."""
    made = [e for e in running.host.of(number) if isinstance(e, Checkpointed)]
    return tuple(Kept(e.step, e.path, e.sha256) for e in reversed(made))


class JobContract:
    """Tests for an executor that has ``group_size`` trials of a worker trained together."""

    group_size = 1

    @classmethod
    def make(cls, source: ObjectiveSource) -> Executor:
        """A new executor over the job."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        executor, folder = cls.make(ObjectiveSource.of(LINES)), tmp_path_factory.mktemp("job")
        with opened(
            executor, folder, metrics=("error",), asks=True, pauses=True, group_size=cls.group_size
        ) as running:
            yield running

    @pytest.fixture
    def running(self, opened: Running) -> Running:
        """The executor as it is at the beginning of each test: nothing runs."""
        host = opened.host
        host.events.clear()
        host.on_event = lambda _: None
        host.stop_at_step = host.pause_at_step = None
        host.keeps = False
        opened.until(lambda: opened.executor.room() == self.group_size)
        return opened

    def run(self, running: Running, all_params: dict[int, Params], **more: Any) -> list[Any]:
        """Runs these trials to their ends, which are returned; those given back, or lost, are launched again."""
        for number, params in all_params.items():
            running.launch(number, params, **more)
            if self.group_size == 1:
                running.until(lambda n=number: self.over(running, n))
        running.until(lambda: all(self.over(running, n) for n in all_params))
        for number, params in all_params.items():
            if isinstance(running.host.ending(number), GivenBack | Lost):
                self.forget(running, number)
                self.run(running, {number: params}, attempt=2)
        return [running.host.ending(n) for n in all_params]

    @staticmethod
    def forget(running: Running, number: int) -> None:
        running.host.events = [e for e in running.host.events if getattr(e, "number", None) != number]

    @staticmethod
    def over(running: Running, number: int) -> bool:
        return any(isinstance(e, ENDINGS) for e in running.host.of(number))

    # --- the tests

    def test_a_job_describes_itself(self, running: Running) -> None:
        info = running.info
        assert (info.name, info.goal, info.fuses) == ("Lines", "minimize error", True)
        assert info.ref == f"{LINES}:Lines"
        assert info.file == LINES
        assert info.space is not None
        assert list(info.space["params"]) == ["lr", "width", "batch_size"]

    def test_every_trial_has_the_numbers_that_it_has_alone(self, running: Running) -> None:
        endings = self.run(running, dict(enumerate(PARAMS)))
        assert endings == [Returned(n, {}) for n in range(3)]
        for number, params in enumerate(PARAMS):
            assert_same(reports(running, number), alone(number, params))
        groups = [e.reason for e in running.host.events if isinstance(e, Noted) and e.action == "group"]
        assert len(groups) == (3 if self.group_size > 1 else 0)
        assert all("one model with 2 other trials" in reason for reason in groups)

    def test_one_that_diverges_or_raises_takes_nobody_along(self, running: Running) -> None:
        good = PARAMS[0]
        diverged, raised, lossy, kept = self.run(running, {
            10: {**good, "lr": 1e30}, 11: {**good, "bad": "model"}, 12: {**good, "bad": "loss"}, 13: good,
        })
        kinds = [Failure.from_json(e.failure).kind for e in (diverged, raised, lossy) if isinstance(e, Failed)]
        assert kinds == [FailureClass.DIVERGED, FailureClass.USER, FailureClass.USER]
        assert "finite" in diverged.failure["message"] or "loss" in diverged.failure["message"]
        failure = Failure.from_json(raised.failure)
        assert failure.message == "ValueError: no such model"
        assert failure.code == 'raise ValueError("no such model")'
        assert kept == Returned(13, {})
        assert_same(reports(running, 13), alone(13, good))

    def test_a_model_that_can_not_be_fused_trains_all_the_same(self, running: Running) -> None:
        params = {**PARAMS[0], "own": True}
        assert self.run(running, {20: params, 21: PARAMS[1]}) == [Returned(20, {}), Returned(21, {})]
        assert_same(reports(running, 20), alone(20, params))
        assert_same(reports(running, 21), alone(21, PARAMS[1]))

    def test_a_verdict_ends_it_at_the_report(self, running: Running) -> None:
        running.host.stop_at_step = 2
        assert self.run(running, {30: PARAMS[0], 31: PARAMS[0]}) == [Returned(30, {}), Returned(31, {})]
        assert [step for step, _ in reports(running, 30)] == [1, 2]

    def test_a_paused_trial_goes_on_as_if_nothing_had_been(self, running: Running) -> None:
        running.host.pause_at_step = 2
        assert self.run(running, {40: PARAMS[0], 41: PARAMS[1]}) == [Paused(40), Paused(41)]
        running.host.pause_at_step = None
        for number in (40, 41):
            kept = saved(running, number)
            assert kept[0].step == 2
            before = reports(running, number)
            self.forget(running, number)
            [ending] = self.run(running, {number: PARAMS[number - 40]}, attempt=2, checkpoints=kept)
            assert ending == Returned(number, {})
            assert running.host.of(number)[0] == Restored(number, 2, [])
            assert_same(before + reports(running, number), alone(number, PARAMS[number - 40]))

    def test_a_checkpoint_is_made_at_the_end_where_it_would_stay(self, running: Running) -> None:
        self.run(running, {50: PARAMS[0]})
        assert saved(running, 50) == ()
        running.host.keeps = True
        self.run(running, {51: PARAMS[0]})
        assert [kept.step for kept in saved(running, 51)] == [NUM_EPOCHS]

    def test_a_preempted_trial_is_saved_and_goes_on_later(self, running: Running) -> None:
        def preempt(event: Event) -> None:
            if isinstance(event, Reported) and event.step == 1:
                running.executor.preempt(60, "another needs it", 20.0)

        running.host.on_event = preempt
        [ending] = self.run(running, {60: {**PARAMS[0], "slow": True}})
        assert ending == Preempted(60, "another needs it")
        step = saved(running, 60)[0].step
        assert step == reports(running, 60)[-1][0]
