"""One copy of a job's data for several processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import velodrome as velo
from velodrome.trials.data_room import DataRoom


def data() -> velo.Data:
    """Of all kinds, some in no order in memory, one without a dimension but samples."""
    x = torch.arange(24.0).view(4, 6).t()
    y = torch.tensor([True, False, True, False, True, True])
    return velo.Data(train=(x, y, x[:, 0].bfloat16()), validation=(x[:2].double(), y[:2], torch.tensor([1, -2])))


def never() -> velo.Data:
    raise AssertionError("asked again")


@pytest.fixture
def room() -> DataRoom:
    found = DataRoom.new()
    assert found is not None
    return found


def in_child(what: Callable[[], None]) -> int:
    """Runs it in a process of its own and returns the exit status."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            what()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def same(found: velo.Data, expected: velo.Data) -> None:
    for a, b in zip((*found.train, *found.validation), (*expected.train, *expected.validation), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_is_asked_for_once_and_kept_as_it_was(room: DataRoom) -> None:
    assert in_child(lambda: same(room.data(data), data())) == 0
    same(room.data(never), data())


def test_changes_in_place_are_ones_own(room: DataRoom) -> None:
    room.data(data).train[0].mul_(7.0)
    same(room.data(never), data())


def test_who_dies_over_it_leaves_it_to_the_next(room: DataRoom) -> None:
    assert in_child(lambda: room.data(lambda: os.kill(os.getpid(), signal.SIGKILL))) == -signal.SIGKILL  # type: ignore[arg-type,return-value]
    with pytest.raises(AssertionError, match="asked again"):
        room.data(never)
    same(room.data(data), data())


def test_what_cant_be_shared_is_asked_for_each_time(room: DataRoom) -> None:
    sparse = velo.Data(train=(torch.eye(3).to_sparse(),), validation=(torch.eye(3),))
    assert room.data(lambda: sparse) is sparse
    same(room.data(data), data())


def test_without_memory_each_has_its_own(room: DataRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("velodrome.trials.data_room.os.pwrite", full)
    same(room.data(data), data())


SHARED = """
import os, torch, velodrome as velo
from pathlib import Path

class Job(velo.TrainingJob):
    space = velo.Space(lr=velo.Float(0.01, 0.1))
    goal = "minimize loss"
    epochs = 1

    def data(self):
        with open(Path(__file__).with_name("asked"), "a") as file:
            file.write("x")
        x = torch.linspace(0, 1, 64).unsqueeze(1)
        return velo.Data(train=(x, x), validation=(x, x))

    def model(self, params):
        return torch.nn.Linear(1, 1)

    def loss(self, model, batch, params):
        return (model(batch[0]) - batch[1]).square().mean(1)

    def optimizer(self, params):
        return velo.SGD(lr=params["lr"])
"""


@pytest.mark.parametrize("fuse", ["off", "2"])
def test_the_workers_of_a_study_share_it(tmp_path: Path, fuse: str) -> None:
    (tmp_path / "job.py").write_text(SHARED)
    study = velo.sweep(str(tmp_path / "job.py"), trials=6, workers=2, fuse=fuse, store=tmp_path / "s.db", seed=0)
    assert all(trial.state == "completed" for trial in study.trials)
    assert (tmp_path / "asked").read_text() == "x"
