"""A store written by hand, whose every figure is known, and a way to run ``velo`` in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from velodrome.cli.main import cli
from velodrome.records import ArtifactRow, DecisionRow, EventRow, MetricRow, StudyRow, TrialRow, trial_id
from velodrome.search.domains import Choice, Float, Int
from velodrome.search.space import Space
from velodrome.store.writer import Writer
from velodrome.types import Failure, FailureClass, Params

Velo = Callable[..., Result]

T0 = 1_700_000_000.0
"""2023-11-14 22:13:20 UTC."""
TRACEBACK = (
    'Traceback (most recent call last):\n  File "/home/me/digits.py", line 12, in train\n'
    '    raise ValueError("no data")\nValueError: no data\n'
)
FAILURES = {
    3: Failure(FailureClass.USER, "ValueError: no data", "ValueError", "/home/me/digits.py", 12,
               'raise ValueError("no data")', TRACEBACK),
    4: Failure(FailureClass.OOM, "MemoryError", "MemoryError", "/home/me/digits.py", 9, "net = Net(width)"),
    5: Failure(FailureClass.DIVERGED, "accuracy is nan (last report: step 3)"),
    6: Failure(FailureClass.USER, "ValueError: no data", "ValueError", "/home/me/digits.py", 12,
               'raise ValueError("no data")', TRACEBACK),
}
SPACE = Space(
    lr=Float(1e-4, 1.0, log=True), width=Int(16, 512, log=True),
    optimizer=Choice(adam={"beta1": Float(0.8, 0.99)}, sgd={}),
)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("VELODROME_STORE", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def velo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Velo:
    """Runs a command in an empty folder; the result has ``exit_code``, ``stdout`` and ``stderr``."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, args, prog_name="velo", input=stdin)

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the study ``digits``, finished: 2 completed, 1 pruned, 4 failed; and ``empty``, which died."""
    path = tmp_path / "velodrome.db"
    with Writer(path) as writer:
        study = writer.create_study(StudyRow(
            0, "digits", "finished", "maximize accuracy", 7, 7, "tpe", "asha", json.dumps(SPACE.to_json()),
            "digits.py:train", json.dumps({"executor": "process", "workers": 2, "resources": ""}), T0,
        ))
        _trial(writer, study, 0, "completed", 0.9, {"lr": 0.01, "width": 64, "optimizer": "sgd"})
        _trial(writer, study, 1, "completed", 0.9731481481481481,
               {"lr": 0.003, "width": 128, "optimizer": "adam", "optimizer.beta1": 0.9})
        _trial(writer, study, 2, "pruned", 0.4, {"lr": 0.02, "width": 16, "optimizer": "sgd"},
               reason="rung 1: 0.4 is below the top 1/4 (0.9) of 4")
        for number, failure in FAILURES.items():
            params = {"lr": 0.5, "width": 512, "optimizer": "sgd"}
            _trial(writer, study, number, "failed", None, params, failure=failure)
        diverged = trial_id(study, 5)
        writer.metrics([
            MetricRow(diverged, "accuracy", step, value, 40 + step, T0)
            for step, value in ((1, 0.1), (2, 0.25), (3, float("nan")))
        ])
        lines = [
            (1, "suggested", 2, [{"lr": 0.02}, {}]), (2, "launched", 2, ["worker-0", "cpu"]),
            (3, "lost", 2, ["the worker was ended from outside by SIGKILL"]), (4, "launched", 2, ["worker-1", "cpu"]),
            (5, "launched", 2, ["worker-1", "cpu"]), (6, "judged", 2, ["rung 1: 0.4 is below the top 1/4 (0.9) of 4"]),
            (7, "returned", 2, [{"accuracy": 0.4}, 1]),
        ]
        for seq, kind, number, data in lines:
            writer.event(EventRow(study, seq, T0 + seq, kind, number, json.dumps(data)))
        writer.decision(DecisionRow(
            study, 6, trial_id(study, 2), T0 + 6, "scheduler", "stop", "rung 1: 0.4 is below the top 1/4 (0.9) of 4"
        ))
        _logs(writer, path, study)
        writer.create_study(StudyRow(
            0, "empty", "running", "minimize loss", 1, 10, "random", "none", json.dumps(Space().to_json()), "", "{}",
            T0 + 60, _host(), 2**22 + 1, 1.0,
        ))
        writer.commit(durable=True)
        writer.refresh_study_view(study)
    return path


def _trial(
    writer: Writer, study: int, number: int, state: str, value: float | None, params: Params, *,
    reason: str | None = None, failure: Failure | None = None,
) -> None:
    writer.trial(TrialRow(
        trial_id(study, number), study, number, state, 1, value, None if value is None else -value,
        json.dumps({} if value is None else {"accuracy": value}), 100 + number, "worker-0", "cpu",
        T0 + number, T0 + number + 1, T0 + number + 3.5, failure.kind.value if failure else None,
        json.dumps(failure.to_json()) if failure else None, reason,
    ))
    writer.params(trial_id(study, number), params)


def _logs(writer: Writer, path: Path, study: int) -> None:
    """One worker's file with the logs of two trials: the second is still being written."""
    first, second = b"epoch 1\nepoch 2\nepoch 3\n", b"\xffepoch 1\nno newline"
    (path.parent / "worker-0.log").write_bytes(first + second)
    writer.artifact(ArtifactRow(trial_id(study, 0), "log", 1, "worker-0.log", 0, len(first)))
    writer.artifact(ArtifactRow(trial_id(study, 1), "log", 1, "worker-0.log", len(first), -1))


def _host() -> str:
    import socket

    return socket.gethostname()
