"""Processes that die: workers, the controller, both, at any moment. Nothing acknowledged is lost, nothing doubled."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.campaign import (
    check_whole,
    family,
    finished,
    kill9,
    loaded_workers,
    rows,
    start,
    velo,
    wait_for,
    wait_until_gone,
    workers,
    write_objective,
)


def test_workers_that_are_killed_at_any_time_cost_nothing_but_time(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, pause=0.01)
    process = start(tmp_path, "sweep", str(objective), "--trials", "40", "--workers", "2", "--name", "s", "--seed", "1")
    chance = random.Random(3)
    killed = 0
    while process.poll() is None and killed < 12:
        time.sleep(chance.uniform(0.02, 0.15))
        if finished(tmp_path) and (victims := loaded_workers(tmp_path, process)):
            kill9(chance.choice(victims))
            killed += 1
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert killed >= 5
    check_whole(tmp_path, 40)
    lost = rows(tmp_path, "select count(*) from events where kind = 'lost'")[0][0]
    assert 1 <= lost <= killed
    assert rows(tmp_path, "select max(attempt) from trials")[0][0] >= 2


def test_a_launcher_that_is_killed_is_started_again(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, pause=0.02)
    process = start(tmp_path, "sweep", str(objective), "--trials", "30", "--workers", "2", "--name", "s")
    wait_for(lambda: finished(tmp_path))
    launchers = [p for p in family(process) if p.ppid() == process.pid]
    assert len(launchers) == 1
    kill9(launchers[0])
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    check_whole(tmp_path, 30)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_controller_that_is_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path, kills: int) -> None:
    objective = write_objective(tmp_path, pause=0.004)
    chance = random.Random(11)
    count = 30 * kills
    args = ["sweep", str(objective), "--trials", str(count), "--workers", "2", "--name", "s", "--seed", "5"]
    before: dict[int, tuple[object, ...]] = {}
    for kill in range(kills):
        process = start(tmp_path, *args)
        args = ["resume", "s"]
        wait_for(partial(_has_more_than, tmp_path, len(before), process))
        time.sleep(chance.uniform(0.0, 0.25))
        acknowledged = finished(tmp_path)
        children = family(process)
        assert process.poll() is None, f"it ended before kill {kill}: {process.communicate()}"
        kill9(process)
        process.wait()
        after = finished(tmp_path)
        assert {n: after[n] for n in acknowledged} == acknowledged, "an acknowledged result changed or went"
        assert {n: after[n] for n in before} == before
        wait_until_gone(children, timeout_s=5.0)
        before = after
    code, _, err = velo(tmp_path, "resume", "s")
    assert code == 0, err
    check_whole(tmp_path, count)


def _has_more_than(folder: Path, count: int, process: subprocess.Popen[str]) -> bool:
    return len(finished(folder)) > count or process.poll() is not None


def test_controller_and_workers_killed_together(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, pause=0.01)
    process = start(tmp_path, "sweep", str(objective), "--trials", "30", "--workers", "2", "--name", "s")
    wait_for(lambda: len(finished(tmp_path)) >= 3)
    everybody = family(process)
    for victim in [process, *everybody]:
        kill9(victim)
    process.wait()
    wait_until_gone(everybody)
    code, _, err = velo(tmp_path, "resume", "s")
    assert code == 0, err
    check_whole(tmp_path, 30)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_ctrl_c_and_its_like_save_everything_and_leave_no_process(
    tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    objective = write_objective(tmp_path, pause=0.02)
    process = start(tmp_path, "sweep", str(objective), "--trials", "30", "--workers", "2", "--name", "s")
    wait_for(lambda: len(finished(tmp_path)) >= 2)
    children = family(process)
    process.send_signal(signum)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert "velo resume s" in err
    assert "Traceback" not in err
    wait_until_gone(children)
    assert rows(tmp_path, "select state from studies") == [("stopped",)]
    assert rows(tmp_path, "select count(*) from trials where state = 'running'") == [(0,)]
    assert velo(tmp_path, "resume", "s")[0] == 0
    check_whole(tmp_path, 30)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, pause=0.02)
    process = start(tmp_path, "sweep", str(objective), "--trials", "500", "--workers", "2", "--name", "s")
    wait_for(lambda: len(finished(tmp_path)) >= 2)
    children = family(process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    started_s = time.monotonic()
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - started_s < 3.0
    wait_until_gone(children)
    code, _, err = velo(tmp_path, "resume", "s", "--trials", "20")
    assert code == 0, err


def test_a_study_that_runs_already_can_not_be_resumed_by_another(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, pause=0.02)
    process = start(tmp_path, "sweep", str(objective), "--trials", "500", "--workers", "1", "--name", "s")
    wait_for(lambda: finished(tmp_path))
    code, _, err = velo(tmp_path, "resume", "s")
    assert code == 5
    assert str(process.pid) in err
    assert "velo stop s" in err
    code, _, err = velo(tmp_path, "stop", "s")
    assert code == 0, err
    process.communicate(timeout=20)
    assert process.returncode == 143


def test_a_worker_notices_that_its_controller_died_while_it_is_busy(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, '''
import time, velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)))
def train(trial):
    time.sleep(600)
''')
    process = start(tmp_path, "sweep", str(objective), "--trials", "3", "--workers", "2", "--name", "s")
    children = wait_for(lambda: workers(process))
    wait_for(lambda: rows(tmp_path, "select 1 from trials where state = 'running'"))
    kill9(process)
    wait_until_gone(children, timeout_s=5.0)
    process.communicate()


def test_children_of_an_objective_die_with_the_study(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, '''
import subprocess, time, velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)))
def train(trial):
    subprocess.Popen(["sleep", "600"])
    print("ready", flush=True)
    time.sleep(600)
''')
    process = start(tmp_path, "sweep", str(objective), "--trials", "3", "--workers", "1", "--name", "s")

    def sleeper() -> list[psutil.Process]:
        found = []
        for child in family(process):
            try:
                if child.name() == "sleep":
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    sleepers = wait_for(sleeper)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    wait_until_gone(sleepers)
    assert isinstance(process, subprocess.Popen)
