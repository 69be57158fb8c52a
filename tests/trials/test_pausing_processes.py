"""Pauses in real worker processes: curves stay the same to the bit, and kills lose nothing."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

import velodrome as velo
from tests.support.campaign import kill9, rows, start, wait_for, workers
from tests.support.campaign import velo as run_velo

OBJECTIVE = '''
import time
import torch
import velodrome as velo

@velo.objective(velo.Space(lr=velo.Float(1e-3, 0.5, log=True)), goal="minimize loss")
def train(trial):
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.params["lr"])
    if (state := trial.restore()) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
    for epoch in range((trial.restored_step or 0) + 1, 9):
        x = torch.randn(32, 8)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep({pause})
        trial.report(epoch, loss=loss, lr=optimizer.param_groups[0]["lr"])
        trial.checkpoint(epoch, {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                                 "rng": torch.get_rng_state()})
'''


def write(folder: Path, pause: float = 0.0) -> None:
    (folder / "train.py").write_text(OBJECTIVE.replace("{pause}", str(pause)))


def curves(folder: Path, study: str) -> dict[tuple[int, int], float]:
    """Loss by trial and step; each is there once by the table's key."""
    found = rows(folder, "select t.number, m.step, m.value from metrics m join trials t on t.id = m.trial_id "
                         f"join studies s on s.id = t.study_id where s.name = '{study}' and m.name = 'loss'")
    return {(number, step): value for number, step, value in found}


def sweep(folder: Path, name: str, scheduler: str, trials: int = 6) -> velo.Study:
    return velo.sweep(
        str(folder / "train.py"), trials=trials, workers=2, sampler="random", scheduler=scheduler, seed=4, name=name,
        store=folder / "velodrome.db", progress=False,
    )


@pytest.mark.slow
def test_a_paused_trial_has_the_curve_that_it_would_have_had(tmp_path: Path) -> None:
    write(tmp_path)
    sweep(tmp_path, "whole", "none")
    study = sweep(tmp_path, "paused", "asha:reduction=2")
    whole, paused = curves(tmp_path, "whole"), curves(tmp_path, "paused")
    assert len(whole) == 6 * 8
    assert len(paused) < len(whole)
    assert all(whole[key] == value for key, value in paused.items())
    states = Counter(trial.state for trial in study.trials)
    assert states["completed"] >= 1
    assert states["completed"] + states["pruned"] == 6
    assert max(trial.attempt for trial in study.trials) > 1
    assert study.checkpoint(study.best)["model"]["weight"].shape == (1, 8)
    actions = {row["action"] for row in study.query("select action from decisions where study_id = :study_id")}
    assert {"pause", "promote", "stop"} <= actions


def test_the_optimizer_of_a_trial_from_anothers_checkpoint_has_its_own_learning_rate(tmp_path: Path) -> None:
    write(tmp_path, pause=0.1)  # so that verdicts come before a trial is at its end
    study = sweep(tmp_path, "bred", "pbt:population=4,interval=3", trials=7)
    children = study.query(
        "select t.number, a.value, m.step, m.value as lr from attrs a join trials t on t.id = a.trial_id "
        "join metrics m on m.trial_id = t.id and m.name = 'lr' where a.name = 'parent'"
    )
    assert children
    for row in children:
        origin = json.loads(row["value"])
        before, now = origin["changed"]["lr"]
        assert row["lr"] == now == study.trial(row["number"]).params["lr"]
        assert before == study.trial(origin["parent"]).params["lr"] != now
        assert row["step"] > origin["step"]


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["asha:reduction=2", "hyperband:reduction=2", "pbt:population=4,interval=3"])
def test_kills_lose_nothing_of_a_study_that_pauses(tmp_path: Path, scheduler: str) -> None:
    write(tmp_path, pause=0.01)
    sweep(tmp_path, "whole", "none", trials=9)
    options = ("--trials", "9", "--workers", "2", "--sampler", "random", "--seed", "4", "--name", "killed")
    process = start(tmp_path, "sweep", "train.py", "--scheduler", scheduler, *options)
    rng = random.Random(1)
    for _ in range(4):
        wait_for(lambda p=process: p.poll() is not None or workers(p), timeout_s=60.0)
        time.sleep(0.3 + rng.random())
        if process.poll() is None:
            victims = [process] if rng.random() < 0.5 else workers(process)[:1]
            for victim in victims:
                kill9(victim)
        if process.poll() is not None:
            process.communicate()
            process = start(tmp_path, "resume", "killed")
    process.communicate(timeout=120)
    code, _, err = run_velo(tmp_path, "resume", "killed")
    assert code == 0, err
    whole, killed = curves(tmp_path, "whole"), curves(tmp_path, "killed")
    if "pbt" not in scheduler:
        assert all(whole[key] == value for key, value in killed.items())
    unfinished = rows(tmp_path, "select count(*) from trials where state not in ('completed', 'pruned', 'failed')")
    assert unfinished == [(0,)]
    steps: dict[int, list[int]] = {}
    for number, step in sorted(killed):
        steps.setdefault(number, []).append(step)
    assert all(found == list(range(found[0], found[-1] + 1)) for found in steps.values())
