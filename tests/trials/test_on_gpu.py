"""Sweeps on a GPU: trials share it, are held to their parts of it, run out of it, and are trained together on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import velodrome as velo
from tests.contracts.job_contract import LINES
from tests.support.gpus import needs_gpu

pytestmark = needs_gpu

OBJECTIVE = """
import os, time
import torch
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize loss")
def train(trial):
    assert trial.device == "cuda" and torch.cuda.device_count() == 1, os.environ.get("CUDA_VISIBLE_DEVICES")
    x = trial.params["x"]
    total = torch.cuda.get_device_properties(0).total_memory
    w = torch.full((3,), x, device=trial.device)
    first = 0
    if (state := trial.restore(trial.device)) is not None:
        w, first = state["w"], state["step"] + 1
        assert w.is_cuda
    share = BIG if x > LARGE and trial.number >= FROM else 0.02
    held = torch.zeros(int(share * total), dtype=torch.uint8, device=trial.device)
    for step in range(first, 8):
        w = w @ torch.eye(3, device=trial.device)
        time.sleep(0.4)
        trial.report(step, loss=w.mean() + held[:1].sum())
        trial.checkpoint(step, {"w": w, "step": step})
"""


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VELODROME_LEDGER", str(tmp_path / "ledger" / "ledger.db"))
    monkeypatch.chdir(tmp_path)


def sweep(trials: int, *, large: float = 1.0, big: float = 0.3, first: int = 0, **more: Any) -> velo.Study:
    """Trials from the ``first`` on whose x is over ``large`` take ``big`` of the GPU's memory, others a fiftieth."""
    Path("train.py").write_text(
        OBJECTIVE.replace("LARGE", str(large)).replace("BIG", str(big)).replace("FROM", str(first)))
    return velo.sweep("train.py", trials=trials, sampler="random", seed=5, progress=False, **more)


def reasons(study: velo.Study, action: str) -> list[str]:
    return [row["reason"] for row in study.query(
        "select reason from decisions where action = :action and study_id = :study_id order by rowid", action=action
    )]


def most_at_once(study: velo.Study) -> int:
    rows = study.query("select started_at, finished_at from trials where study_id = :study_id")
    spans = [(row["started_at"], row["finished_at"]) for row in rows]
    return max(sum(start <= at < end for start, end in spans) for at, _ in spans)


def test_trials_share_the_gpu_once_it_is_known_what_they_need() -> None:
    study = sweep(10)
    assert {trial.state for trial in study.trials} == {"completed"}
    assert all(trial.value == pytest.approx(trial.params["x"], rel=1e-5) for trial in study.trials)
    assert any("share a GPU" in reason for reason in reasons(study, "resize"))
    assert most_at_once(study) > 1
    assert {row["device"] for row in study.query("select device from trials where study_id = :study_id")} == {"cuda:0"}


def test_a_part_that_is_too_small_costs_a_start_and_nothing_else() -> None:
    study = sweep(24, large=0.3, first=12)
    assert {trial.state for trial in study.trials} == {"completed"}
    assert all(trial.value == pytest.approx(trial.params["x"], rel=1e-5) for trial in study.trials)
    preempted = study.query("select data from events where kind = 'preempted' and study_id = :study_id")
    assert preempted
    assert all("was too small for it" in row["data"] for row in preempted)


def test_what_does_not_fit_into_half_a_gpu_is_out_of_memory_and_its_neighbour_is_left_alone() -> None:
    study = sweep(6, large=0.6, big=0.6, resources="gpu=0.5", workers=2)
    for trial in study.trials:
        assert trial.state == ("failed" if trial.params["x"] > 0.6 else "completed")
    failed = study.query("select failure_class, failure from trials where state = 'failed' and study_id = :study_id")
    assert failed
    assert {row["failure_class"] for row in failed} == {"oom"}
    assert all("train.py" in row["failure"] and "out of memory" in row["failure"] for row in failed)


def test_more_than_there_is_is_out_of_memory() -> None:
    study = sweep(4, large=0.6, big=1.5)
    states = {trial.params["x"] > 0.6: str(trial.state) for trial in study.trials}
    assert states == {True: "failed", False: "completed"}
    assert {row["failure_class"] for row in study.query("select failure_class from trials where state = 'failed'")} == {
        "oom"}


def test_trained_together_every_trial_is_what_it_is_alone() -> None:
    usual: dict[str, Any] = {"trials": 10, "sampler": "random", "seed": 1, "progress": False, "resources": "gpu=1",
                             "workers": 1}
    fused = velo.sweep(LINES, name="fused", fuse=5, **usual)
    apart = velo.sweep(LINES, name="apart", fuse="off", **usual)
    on_cpu = velo.sweep(LINES, name="cpu", fuse="off", **usual | {"resources": "gpu=0"})
    for study in (fused, apart):
        devices = study.query("select distinct device from trials where study_id = :study_id")
        assert [row["device"] for row in devices] == ["cuda:0"]
    for other in (apart, on_cpu):
        assert [t.value for t in fused.trials] == pytest.approx([t.value for t in other.trials], rel=1e-3)
