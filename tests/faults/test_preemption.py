"""Places that are taken away, again and again: a trial ends as if it had never been disturbed, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.support.fakes import MemoryLog
from tests.support.threads import one_thread as one_thread  # sums come out differently on two
from velodrome.clock import SystemClock
from velodrome.records import StudyRow
from velodrome.resources.slots import Slot
from velodrome.search.domains import Float
from velodrome.search.history import History
from velodrome.search.registry import make_sampler, make_scheduler
from velodrome.search.space import Space
from velodrome.trials import checkpoints
from velodrome.trials.controller import Controller
from velodrome.trials.executor import Executor, StudyContext
from velodrome.trials.inline_executor import InlineExecutor
from velodrome.trials.manager import Manager, Outcome
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.policy import Policy
from velodrome.trials.process_executor import ProcessExecutor
from velodrome.trials.share import Allowance
from velodrome.trials.table import TrialTable
from velodrome.types import Goal

STEPS = 240
OBJECTIVE = f'''
import torch
import velodrome as velo

def train(trial):
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Dropout(0.1), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = 1
    if (state := trial.restore()) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        first = trial.restored_step + 1
    for step in range(first, {STEPS} + 1):
        x = torch.randn(32, 16)
        loss = (model(x) - x.sum(1, keepdim=True).sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trial.report(step, loss=loss.detach())
        trial.checkpoint(step, {{
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}})
'''


class Disturbed:
    """Takes the study's only place away after every three checkpoints, so many times, and gives it back."""

    def __init__(self, log: MemoryLog, times: int) -> None:
        self._log, self._times = log, times
        self._begun, self._done, self._at = 0, 0, 3

    def adjust(self, held: Sequence[Slot], wanted: int, gpu_peak_bytes: int = 0) -> Allowance:
        done = len([row for row in self._log.events if row.kind == "preempted"])
        newest = max((row.step for row in self._log.checkpoints), default=0)
        if done > self._done:  # it has been taken away, and comes back for three checkpoints or more
            self._done, self._at = done, newest + 3
        if done == self._begun < self._times and newest >= self._at:
            self._begun += 1
        slots = () if self._begun > done else (Slot(0),)
        return Allowance(slots, "bob comes and goes", 0.0, 60.0, look_in_s=0.02)


def run(folder: Path, executor: Executor, times: int) -> MemoryLog:
    """One trial on one place, which is taken away so often; its last checkpoint stays."""
    goal, log = Goal.parse("minimize loss"), MemoryLog()
    table = TrialTable(History(Space(x=Float(0.0, 1.0)), goal), make_scheduler("none", goal), Policy(max_losses=0))
    row = StudyRow(1, "s", "running", "minimize loss", 7, 1, "random", "none", "{}", "", "{}", 0.0)
    controller = Controller(row, table, make_sampler("random", seed=7), log, SystemClock())
    executor.describe()
    context = StudyContext("s", ("loss",), False, str(folder / "logs"), str(folder), "files/s")
    share = Disturbed(log, times) if times else None
    assert Manager(controller, executor, context, target=1, share=share).run() == Outcome("finished", "")
    return log


def state_of(folder: Path, log: MemoryLog) -> dict[str, torch.Tensor]:
    """The trial's last weights, and its optimizer's state."""
    last = max(log.checkpoints, key=lambda checkpoint: checkpoint.step)
    assert last.step == STEPS
    state = checkpoints.load(folder / last.path)
    moments = {f"{i}.{k}": v for i, s in state["optimizer"]["state"].items() for k, v in s.items()}
    return {**state["model"], **moments, "rng": state["rng"]}


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_torch_trial_that_is_preempted_ends_with_the_weights_of_one_that_is_not(
    tmp_path: Path, times: int
) -> None:
    file = tmp_path / "train.py"
    file.write_text(OBJECTIVE)
    source = ObjectiveSource.of(f"{file}:train")
    calm = run(tmp_path / "calm", InlineExecutor(source, Slot(0)), 0)
    rough = run(tmp_path / "rough", ProcessExecutor(source, [Slot(0)]), times)
    kinds = [row.kind for row in rough.events]
    assert (kinds.count("preempted"), kinds.count("restored"), kinds.count("lost")) == (times, times, 0)
    assert (rough.trials[0].state, rough.trials[0].attempt) == ("completed", times + 1)
    assert calm.trials[0].value == rough.trials[0].value
    expected, found = state_of(tmp_path / "calm", calm), state_of(tmp_path / "rough", rough)
    assert list(expected) == list(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    reports = [[(m.step, m.name, m.value) for m in log.metric_rows] for log in (calm, rough)]
    assert reports[0] == reports[1], "every report once"
