"""A Ray cluster of three nodes that loses one, actors that die, and a controller that is killed with its own Ray."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import velodrome
from tests.support.campaign import check_whole, family, finished, kill9, rows, start, velo, wait_for, wait_until_gone
from tests.support.ray_nodes import RayNodes, three_nodes
from velodrome.trials.manager import Progress

pytestmark = pytest.mark.slow

SLOW_TRIALS = """
import time
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0), k=velo.Int(1, 5)), goal="minimize value")
def train(trial):
    first = 0
    if trial.restore() is not None:
        first = trial.restored_step + 1
    for step in range(first, 4):
        time.sleep(0.1)
        trial.report(step, value=trial.params["x"] / (step + 1), twice=2.0 * trial.params["x"])
        trial.checkpoint(step, {"step": step})
    return trial.params["x"]
"""
BUSY_S = 400.0
"""Ray starts eight processes, which takes seconds; with eight others on the same two cores, minutes."""
ON_RAY = ("sweep", "train.py", "--name", "s", "--executor", "ray", "--workers", "2")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RayNodes]:
    with three_nodes(tmp_path) as nodes:
        yield nodes


def test_a_node_that_is_lost_in_the_middle_costs_nothing_but_time(cluster: RayNodes, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SLOW_TRIALS)
    lost: list[int] = []

    def kill_one(progress: Progress) -> None:
        if not lost and progress.finished >= 8:
            lost.append(progress.finished)
            cluster.lose(random.Random(0))

    study = velodrome.sweep(
        str(tmp_path / "train.py"), trials=40, sampler="random", seed=1, store=tmp_path / "velodrome.db", workers=3,
        executor="ray", address=cluster.address, progress=kill_one,
    )
    assert lost
    check_whole(tmp_path, 40)
    assert rows(tmp_path, "select count(*) from events where kind = 'lost'") == [(1,)]
    [(number,)] = rows(tmp_path, "select number from events where kind = 'lost'")
    assert study.trial(number).state == "completed"
    workers = {w for (w,) in rows(tmp_path, "select worker from trials")}
    assert len(workers) == 3
    assert "the worker's node" in rows(tmp_path, "select data from events where kind = 'lost'")[0][0]


def test_code_travels_to_nodes_that_do_not_have_it_and_checkpoints_travel_back(
    cluster: RayNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from velodrome.trials.shipping import Sources

    code = tmp_path / "code"
    code.mkdir()
    (code / "neighbour.py").write_text("def value(x):\n    if x > 0.9: raise ValueError('too far')\n    return x\n")
    (code / "train.py").write_text(
        SLOW_TRIALS.replace("import time", "import time\nimport neighbour")
        .replace('return trial.params["x"]', 'print("seen")\n    return neighbour.value(trial.params["x"])')
    )
    gather = Sources.of

    def gather_and_forget(*args: Any) -> Sources:
        sources = gather(*args)
        shutil.rmtree(code)
        return sources

    monkeypatch.setattr(Sources, "of", gather_and_forget)
    study = velodrome.sweep(
        str(code / "train.py"), trials=12, sampler="random", seed=3, store=tmp_path / "velodrome.db", workers=2,
        executor="ray", address=cluster.address, progress=False, breaker=0,
    )
    assert len(study.trials) == 12
    failed = [t for t in study.trials if t.state == "failed"]
    assert failed
    assert all(t.params["x"] > 0.9 for t in failed)
    assert failed[0].failure is not None
    assert failed[0].failure.file == str(code / "neighbour.py")
    assert failed[0].failure.code == "if x > 0.9: raise ValueError('too far')"
    assert study.checkpoint(study.best) == {"step": 3}
    assert study.row.objective == f"{code / 'train.py'}:train"
    assert {p.name for p in (tmp_path / "velodrome.logs").glob("*/*.log")}


def test_a_cluster_that_is_too_small_says_what_it_waits_for(cluster: RayNodes, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SLOW_TRIALS)
    notes: list[str] = []
    study = velodrome.sweep(
        str(tmp_path / "train.py"), trials=40, sampler="random", seed=1, store=tmp_path / "velodrome.db", workers=5,
        executor="ray", address=cluster.address, progress=lambda progress: notes.append(progress.note),
    )
    check_whole(tmp_path, 40)
    assert any("2 of 5 workers wait for a place on the cluster (each asks for CPU 1" in note for note in notes)
    reasons = [row["reason"] for row in study.query("select reason from decisions where action = 'plan'")]
    assert any("can hold 3 of them" in reason for reason in reasons)


def test_what_only_one_node_has_is_used_there_by_one_at_a_time(cluster: RayNodes, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SLOW_TRIALS)
    cluster.add(licences=1)
    notes: list[str] = []
    study = velodrome.sweep(
        str(tmp_path / "train.py"), trials=16, sampler="random", seed=1, store=tmp_path / "velodrome.db", workers=2,
        executor="ray", address=cluster.address, resources="licences=1",
        progress=lambda progress: notes.append(progress.note),
    )
    check_whole(tmp_path, 16)
    [reason] = [row["reason"] for row in study.query("select reason from decisions where action = 'plan'")][:1]
    assert "(1 CPU, 1 licences each)" in reason
    assert any("1 of 2 workers wait for a place" in note for note in notes)
    spans = sorted(rows(tmp_path, "select started_at, finished_at from trials"))
    assert all(end <= start + 0.1 for (_, end), (start, _) in itertools.pairwise(spans)), "one at a time"


def test_a_controller_that_is_killed_leaves_no_process_of_its_ray(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SLOW_TRIALS)
    process = start(tmp_path, *ON_RAY, "--trials", "40")
    wait_for(lambda: len(finished(tmp_path)) >= 3 or process.poll() is not None, timeout_s=BUSY_S)
    assert process.poll() is None, process.communicate()
    everybody = family(process)
    assert len(everybody) > 6
    kill9(process)
    process.wait()
    wait_until_gone(everybody, timeout_s=10)
    assert not list(Path(tempfile.gettempdir()).glob(f"velo-ray-{process.pid}-*"))
    code, _, err = velo(tmp_path, "resume", "s")
    assert code == 0, err
    check_whole(tmp_path, 40)


def test_an_actor_that_is_killed_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SLOW_TRIALS)
    process = start(tmp_path, *ON_RAY, "--trials", "20")
    wait_for(lambda: len(finished(tmp_path)) >= 3 or process.poll() is not None, timeout_s=BUSY_S)
    actors = [p for p in family(process) if p.is_running() and "RayWorker" in "".join(p.cmdline())]
    assert actors, [p.cmdline()[:3] for p in family(process)]
    os.kill(actors[0].pid, signal.SIGKILL)
    _, err = process.communicate(timeout=BUSY_S)
    assert process.returncode == 0, err
    check_whole(tmp_path, 20)
    assert rows(tmp_path, "select count(*) from events where kind = 'lost'")[0][0] >= 1
