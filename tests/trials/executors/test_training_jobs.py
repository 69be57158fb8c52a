"""Training jobs under the executors of one machine, one by one and together."""

from __future__ import annotations

import os
import signal

import pytest

from tests.contracts.job_contract import PARAMS, JobContract, alone, assert_same, reports
from tests.support.executors import Running
from velodrome.resources.slots import Slot
from velodrome.trials.events import Event, Failed, Lost, Noted, Reported, Returned
from velodrome.trials.executor import Executor
from velodrome.trials.inline_executor import InlineExecutor
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.process_executor import ProcessExecutor


class TestInline(JobContract):
    @classmethod
    def make(cls, source: ObjectiveSource) -> Executor:
        return InlineExecutor(source, Slot(0))


@pytest.mark.slow
class TestOneByOne(JobContract):
    @classmethod
    def make(cls, source: ObjectiveSource) -> Executor:
        return ProcessExecutor(source, [Slot(0)], prefetch=1)


class TestTogether(JobContract):
    group_size = 4

    @classmethod
    def make(cls, source: ObjectiveSource) -> Executor:
        return ProcessExecutor(source, [Slot(0)])

    def test_all_trials_of_a_killed_worker_are_lost_and_run_again(self, running: Running) -> None:
        assert isinstance(running.executor, ProcessExecutor)
        pids, lost = running.executor.pids(), []

        def kill(event: Event) -> None:
            if isinstance(event, Reported) and event.step == 2 and pids:
                os.kill(pids.pop(), signal.SIGKILL)
            if isinstance(event, Lost):
                lost.append(event)

        running.host.on_event = kill
        assert self.run(running, {70: PARAMS[0], 71: PARAMS[1]}) == [Returned(70, {}), Returned(71, {})]
        assert lost == [Lost(n, "the worker was ended from outside by SIGKILL") for n in (70, 71)]
        for number, params in ((70, PARAMS[0]), (71, PARAMS[1])):
            assert_same(reports(running, number), alone(number, params))

    def test_one_that_ends_the_process_is_found_and_the_others_go_on(self, running: Running) -> None:
        """Whose doing it was is not known, so each is tried by itself."""
        endings = self.run(running, {80: PARAMS[0], 81: {**PARAMS[0], "bad": "exit"}, 82: PARAMS[1]})
        assert [type(ending) for ending in endings] == [Returned, Failed, Returned]
        assert endings[1].failure["message"] == "ended its own process with exit status 7"
        reasons = [e.reason for e in running.host.events if isinstance(e, Noted) and e.action == "train alone"]
        assert any("exit status 7" in reason for reason in reasons)

    def test_what_is_printed_is_in_the_log_of_each(self, running: Running) -> None:
        self.run(running, {90: {**PARAMS[0], "print": "from ninety"}, 91: PARAMS[1]})
        assert "from ninety" in running.host.printed(90)
        assert "from ninety" in running.host.printed(91)
        self.run(running, {92: PARAMS[0]})
        assert [n for n, *_ in running.host.outputs if n == 92] == []
