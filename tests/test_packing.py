"""Whole studies on a machine with one GPU that is made up: how many trials share it, and what the next study knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import velodrome as velo
from velodrome.resources.gpus import Gpu
from velodrome.resources.inventory import Inventory

pytestmark = pytest.mark.slow

GIB = 1 << 30
OBJECTIVE = """
import time
import torch
import velodrome as velo

cuda = torch.cuda
cuda.is_initialized = cuda.is_available = lambda: True
cuda.device_count = lambda: 1
cuda.manual_seed_all = lambda seed: None
cuda.get_device_properties = lambda device: type("Properties", (), {"total_memory": 16 << 30})
part = [1.0]
cuda.set_per_process_memory_fraction = lambda fraction, device: part.__setitem__(0, fraction)
cuda.max_memory_reserved = lambda device: 3 << 30

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize loss")
def train(trial):
    if trial.params["x"] > LARGE and part[0] < 0.4:
        raise RuntimeError("CUDA out of memory")
    for step in range(8):
        time.sleep(0.1)
        trial.report(step, loss=trial.params["x"])
"""


@pytest.fixture(autouse=True)
def _one_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = replace(Inventory.detect(), cpus=8, gpus=(Gpu(0, "GPU-a", "Card", 16 * GIB, 16 * GIB),))
    monkeypatch.setattr(Inventory, "detect", classmethod(lambda cls, **_: machine))
    monkeypatch.setenv("VELODROME_LEDGER", str(tmp_path / "ledger" / "ledger.db"))
    monkeypatch.chdir(tmp_path)


def sweep(trials: int, seed: int, large: float = 1.0) -> velo.Study:
    Path("train.py").write_text(OBJECTIVE.replace("LARGE", str(large)))
    return velo.sweep("train.py", trials=trials, sampler="random", seed=seed, progress=False)


def reasons(study: velo.Study, action: str) -> list[str]:
    return [row["reason"] for row in study.query(
        "select reason from decisions where action = :action and study_id = :study_id order by rowid", action=action
    )]


def spans(study: velo.Study) -> list[tuple[Any, Any]]:
    sql = "select started_at, finished_at from trials where study_id = :study_id order by started_at"
    return [(row["started_at"], row["finished_at"]) for row in study.query(sql)]


def test_others_join_the_first_trial_and_the_next_study_begins_with_as_many() -> None:
    first = sweep(trials=12, seed=5)
    assert {trial.state for trial in first.trials} == {"completed"}
    assert "1 worker: as many as the GPUs allow" in reasons(first, "plan")
    assert any("3.5 GiB of a GPU's memory: 4 share a GPU" in reason for reason in reasons(first, "resize"))
    times = spans(first)
    assert times[1][0] < times[0][1], "they came while it ran"
    assert max(sum(start <= at < end for start, end in times) for at, _ in times) in (3, 4)
    following = sweep(trials=4, seed=6)
    assert any("4 share a GPU" in reason for reason in reasons(following, "plan"))


def test_a_part_that_is_too_small_for_a_trial_costs_it_a_start_and_nothing_else() -> None:
    study = sweep(trials=12, seed=5, large=0.7)
    assert {trial.state for trial in study.trials} == {"completed"}
    assert any("2 share a GPU" in reason for reason in reasons(study, "resize"))
    preempted = study.query("select data from events where kind = 'preempted'")
    assert preempted
    assert all("was too small for it" in row["data"] for row in preempted)
