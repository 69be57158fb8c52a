"""The inline executor: the contract, and what is special about running in the user's own thread."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.executor_contract import ExecutorContract
from velodrome.errors import StoreError
from velodrome.resources.slots import Slot
from velodrome.trials.events import Event, GivenBack, Reported, Returned
from velodrome.trials.executor import Executor
from velodrome.trials.inline_executor import InlineExecutor
from velodrome.trials.objective import ObjectiveSource


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Loading a file leaves its folder on sys.path and its module loaded, as it should; not for the next test."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) & {"objective", "mine"} - modules:
        del sys.modules[name]


class TestInlineExecutor(ExecutorContract):
    def make(self, source: ObjectiveSource, **options: Any) -> Executor:
        return InlineExecutor(source, Slot(0, **options))

    def test_runs_in_this_thread(self, tmp_path: Path) -> None:
        places: list[tuple[int, int]] = []

        def train(_trial: Any) -> None:
            places.append((os.getpid(), threading.get_ident()))

        with self.running(tmp_path, train) as running:
            running.run(0)
        assert places == [(os.getpid(), threading.get_ident())]

    def test_ctrl_c_passes_through_and_the_trial_is_given_back(self, tmp_path: Path) -> None:
        def train(_trial: Any) -> None:
            raise KeyboardInterrupt

        with self.running(tmp_path, train) as running:
            running.launch(0)
            with pytest.raises(KeyboardInterrupt):
                running.executor.poll(0)
            assert running.host.events == []
            running.executor.close()
            assert running.host.events == [GivenBack(0)]

    def test_an_error_of_the_host_is_no_failure_of_the_trial(self, tmp_path: Path) -> None:
        def train(trial: Any) -> float:
            try:
                trial.report(0, score=1.0)
            except Exception:
                return 1.0
            return 2.0

        def full(event: Event) -> None:
            if isinstance(event, Reported):
                raise StoreError("The disk is full")

        with self.running(tmp_path, train) as running:
            running.host.on_event = full
            running.launch(0)
            with pytest.raises(StoreError):
                running.executor.poll(0)
            assert not any(isinstance(e, Returned) for e in running.host.events)

    def test_the_slots_environment_lasts_as_long_as_the_executor(self, tmp_path: Path) -> None:
        def train(_trial: Any) -> float:
            return float(os.environ["VELO_TEST_SLOT"])

        with self.running(tmp_path, train, env={"VELO_TEST_SLOT": "5"}) as running:
            assert running.run(0) == Returned(0, {"score": 5.0})
        assert "VELO_TEST_SLOT" not in os.environ

    def test_close_gives_back_what_did_not_end(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "return 1.0") as running:
            running.launch(0)
            running.executor.close()
            assert running.host.events == [GivenBack(0)]
