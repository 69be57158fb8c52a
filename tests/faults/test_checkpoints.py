"""Trials that are killed at any moment, also in the midst of a checkpoint, end as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.campaign import (
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

STEPS = 40
OBJECTIVE = '''
import random, sys, time
import numpy as np
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize loss")
def train(trial):
    generator, chance = np.random.default_rng(trial.seed), random.Random(trial.seed)
    weights, velocity, first = np.zeros(2000), np.zeros((2, 1000)), 1
    if (state := trial.restore()) is not None:
        weights, velocity, first = state["weights"], state["velocity"], trial.restored_step + 1
        generator.bit_generator.state = state["generator"]
        chance.setstate(state["chance"])
        print("restored", trial.restored_step)
    for step in range(first, {steps} + 1):
        gradient = 0.01 * weights + generator.standard_normal(2000) * trial.params["x"] + chance.random()
        velocity = 0.9 * velocity + gradient.reshape(2, 1000)
        weights = weights - 0.1 * velocity.reshape(2000)
        time.sleep({pause})
        trial.report(step, loss=float(np.abs(weights).sum()), chance=chance.random())
        if step % 2 == 0:
            trial.checkpoint(step, {"weights": weights, "velocity": velocity,
                                    "generator": generator.bit_generator.state, "chance": chance.getstate()})
        if trial.should_stop:
            break
    return float(np.abs(weights).sum())
'''.replace("{steps}", str(STEPS))
ARGS = ("--sampler", "random", "--seed", "3", "--name", "s", "--workers", "2", "--keep-checkpoints", "2")


def outcome(folder: Path) -> tuple[list[Any], list[Any]]:
    """Every trial's result and every reported figure."""
    return (rows(folder, "select number, state, value from trials order by number"),
            rows(folder, "select trial_id, name, step, value from metrics order by 1, 2, 3"))


def num_made(folder: Path) -> int:
    """How many checkpoints were made so far."""
    found = rows(folder, "select count(*) from events where kind = 'checkpointed'")
    return int(found[0][0]) if found else 0


def check_files(folder: Path) -> None:
    """Exactly the files that the store names are there, and they are of the two best trials."""
    known = {path for (path,) in rows(folder, "select path from checkpoints")}
    found = {str(p.relative_to(folder)) for p in (folder / "velodrome.files/s").glob("*/*")}
    assert known <= found
    best = rows(folder, "select id from trials order by value limit 2")
    kept = rows(folder, "select trial_id, step from checkpoints order by 1")
    assert kept == [(key, STEPS) for (key,) in sorted(best)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[list[Any], list[Any]]]:
    """What comes out of so many trials where nobody is killed."""

    @cache
    def run(trials: int) -> tuple[list[Any], list[Any]]:
        folder = tmp_path_factory.mktemp("undisturbed")
        objective = write_objective(folder, OBJECTIVE, 0.0)
        code, _, err = velo(folder, "sweep", str(objective), "--trials", str(trials), *ARGS)
        assert code == 0, err
        check_files(folder)
        return outcome(folder)

    return run


@pytest.mark.parametrize(("trials", "kills"), [(6, 12), pytest.param(30, 100, marks=pytest.mark.slow)])
def test_workers_killed_at_random(undisturbed: Any, tmp_path: Path, trials: int, kills: int) -> None:
    objective = write_objective(tmp_path, OBJECTIVE, 0.004)
    process = start(tmp_path, "sweep", str(objective), "--trials", str(trials), *ARGS)
    chance, killed = random.Random(trials), 0
    made = 0
    while process.poll() is None and killed < kills:
        wait_for(lambda made=made: process.poll() is not None or num_made(tmp_path) > made)  # a start may take long
        made = num_made(tmp_path)
        time.sleep(chance.uniform(0.01, 0.12))
        if victims := loaded_workers(tmp_path, process):
            kill9(chance.choice(victims))
            killed += 1
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert rows(tmp_path, "select count(*) from events where kind = 'lost'")[0][0] >= 3
    assert rows(tmp_path, "select count(*) from events where kind = 'restored' and data not like '[null%'")[0][0] >= 2
    assert outcome(tmp_path) == undisturbed(trials)
    check_files(tmp_path)


@pytest.mark.parametrize(("trials", "kills"), [(6, 5), pytest.param(30, 25, marks=pytest.mark.slow)])
def test_controllers_killed_at_random(undisturbed: Any, tmp_path: Path, trials: int, kills: int) -> None:
    objective = write_objective(tmp_path, OBJECTIVE, 0.01)
    chance, args = random.Random(trials), ["sweep", str(objective), "--trials", str(trials), *ARGS]
    for _ in range(kills):
        before = num_made(tmp_path)
        process = start(tmp_path, *args)
        args = ["resume", "s"]
        wait_for(lambda p=process, before=before: p.poll() is not None or num_made(tmp_path) > before)
        time.sleep(chance.uniform(0.0, 0.15))
        children = workers(process)
        kill9(process)
        process.communicate()
        wait_until_gone(children)
        paths = [path for (path,) in rows(tmp_path, "select path from checkpoints")]
        assert all((tmp_path / path / "manifest.json").exists() for path in paths), "no row without its files"
    code, _, err = velo(tmp_path, "resume", "s")
    assert code == 0, err
    assert outcome(tmp_path) == undisturbed(trials)
    check_files(tmp_path)
    stored = {path for (path,) in rows(tmp_path, "select path from checkpoints")}
    velo(tmp_path, "resume", "s")
    assert {str(p.relative_to(tmp_path)) for p in (tmp_path / "velodrome.files/s").glob("*/*")} == stored


def test_damaged_checkpoints_cost_time_and_nothing_else(undisturbed: Any, tmp_path: Path) -> None:
    objective = write_objective(tmp_path, OBJECTIVE, 0.03)
    process = start(tmp_path, "sweep", str(objective), "--trials", "6", *ARGS)
    wait_for(lambda: len(rows(tmp_path, "select 1 from checkpoints where trial_id % 1000 < 2")) == 4)
    kill9(process)
    process.communicate()
    left = rows(tmp_path, "select number, path from checkpoints join trials t on t.id = trial_id "
                          "where state = 'running' order by number, step desc")
    newest = dict(reversed(left))
    assert len(left) == 4
    weights = tmp_path / newest[0] / "arrays.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1000] ^= 16
    weights.write_bytes(data)
    for number, path in left:
        if number == 1:
            shutil.rmtree(tmp_path / path)
    code, _, err = velo(tmp_path, "resume", "s")
    assert code == 0, err
    assert outcome(tmp_path) == undisturbed(6)
    skipped = rows(
        tmp_path, "select trial_id % 1000, reason from decisions where action = 'skip checkpoint' order by 1"
    )
    assert [number for number, _ in skipped] == [0, 1, 1]
    assert "arrays.safetensors is not as it was written" in skipped[0][1]
    assert "went on from its beginning" in skipped[1][1]
    _, out, _ = velo(tmp_path, "logs", "s", "0")
    assert "is damaged" in out
    assert len(finished(tmp_path)) == 6
