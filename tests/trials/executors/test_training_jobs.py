"""Training jobs under the executors of one machine, one by one and together."""

from __future__ import annotations

from tests.contracts.job_contract import JobContract
from velodrome.resources.slots import Slot
from velodrome.trials.executor import Executor
from velodrome.trials.inline_executor import InlineExecutor
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.process_executor import ProcessExecutor


class TestInline(JobContract):
    @classmethod
    def make(cls, source: ObjectiveSource) -> Executor:
        return InlineExecutor(source, Slot(0))


class TestOneByOne(JobContract):
    @classmethod
    def make(cls, source: ObjectiveSource) -> Executor:
        return ProcessExecutor(source, [Slot(0)], prefetch=1)


class TestTogether(JobContract):
    group_size = 4

    @classmethod
    def make(cls, source: ObjectiveSource) -> Executor:
        return ProcessExecutor(source, [Slot(0)])
