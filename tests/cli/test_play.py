"""``velo play``, and the functions of Python behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import velodrome as velo_api
from tests.cli.conftest import Velo
from velodrome.errors import NotFoundError
from velodrome.rl.algorithms import GOAL, OBJECTIVE, training_space

TINY: dict[str, Any] = {"num_envs": 4, "num_steps": 16, "epochs": 1, "eval_episodes": 2, "width": 8, "checkpoint_s": 0}
QUIET: dict[str, Any] = {"seed": 1, "executor": "inline", "progress": False, "store": "velodrome.db"}


def train(name: str = "run", **settings: Any) -> velo_api.Study:
    return velo_api.train("ppo", "CartPole-v1", steps=320, name=name, **{**QUIET, **TINY, **settings})


def sweep(name: str, trials: int, keep: str) -> velo_api.Study:
    space = training_space("ppo", "CartPole-v1", 128, TINY)
    return velo_api.sweep(
        OBJECTIVE, space, trials=trials, goal=GOAL, sampler="random", name=name, keep_checkpoints=keep, **QUIET
    )


def test_a_line_per_episode_and_a_video(velo: Velo) -> None:
    train()
    done = velo("play", "run", "--episodes", "3", "--video", "run.mp4", "--seed", "4", "--max-frames", "20")
    assert done.exit_code == 0, done.stderr
    heading, *lines = done.stdout.splitlines()
    assert heading.split() == ["episode", "return", "length"]
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    returns = [float(line.split()[1]) for line in lines]
    assert "run/0, best weights: mean return" in done.stderr
    assert f"run.mp4: 20 frames; {int(sum(returns)) + 3 - 20} more were left out (--max-frames)" in done.stderr
    assert Path("run.mp4").stat().st_size > 500
    done = velo("play", "run/0", "--episodes", "3", "--seed", "4", "--json")
    told = json.loads(done.stdout)
    assert [episode["return"] for episode in told["episodes"]] == returns
    assert told["mean_return"] == np.mean(returns)
    assert (told["study"], told["trial"], told["env"], told["video"]) == ("run", 0, "CartPole-v1", None)
    done = velo("play", "run", "0", "--weights", "last", "--stochastic", "--json")
    assert json.loads(done.stdout)["weights"] == "last"


def test_the_same_from_python(velo: Velo, tmp_path: Path) -> None:
    study = train()
    played = velo_api.play(study, episodes=2, seed=4, frames=True, max_frames=5)
    again = velo_api.play("run", 0, episodes=2, seed=4, store="velodrome.db")
    assert played.returns.tolist() == again.returns.tolist()
    assert len(played.frames) == 5
    agent = velo_api.load_agent(study, deterministic=False, seed=3)
    assert not agent.is_deterministic
    assert agent.act(np.zeros(4, np.float32)) in (0, 1)
    assert not (tmp_path / "videos").exists()


def test_the_best_trial_plays_and_others_have_kept_nothing(velo: Velo) -> None:
    study = sweep("three", 3, "best")
    best = study.best.number
    told = json.loads(velo("play", "three", "--json").stdout)
    assert told["trial"] == best
    done = velo("play", "three", str((best + 1) % 3))
    assert done.exit_code == 4
    assert "a better trial has kept its own (--keep-checkpoints best): velo play three" in done.stderr


def test_a_study_that_keeps_nothing(velo: Velo) -> None:
    sweep("none", 1, "none")
    done = velo("play", "none")
    assert done.exit_code == 4
    assert "keeps none (--keep-checkpoints none)" in done.stderr


@pytest.mark.parametrize(("keep", "code", "said"), [
    ("best", 4, "only --keep-checkpoints all keeps those of failed and pruned trials; velo why failed 0"),
    ("all", 0, "failed/0, last weights"),
])
def test_a_trial_that_failed(keep: str, code: int, said: str, velo: Velo, monkeypatch: pytest.MonkeyPatch) -> None:
    from velodrome.rl.training import Training

    monkeypatch.setattr(Training, "final_figures", lambda _self: 1 / 0)  # after its last checkpoint
    sweep("failed", 1, keep)
    done = velo("play", "failed")
    assert done.exit_code == code
    assert said in done.stderr


def test_a_run_that_was_stopped_plays_from_its_last_checkpoint(velo: Velo, monkeypatch: pytest.MonkeyPatch) -> None:
    from velodrome.rl.training import Training

    def stop(_self: Training) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "final_figures", stop)
    with pytest.raises(KeyboardInterrupt):
        train("cut")
    done = velo("play", "cut")
    assert done.exit_code == 0, done.stderr
    assert velo_api.load_study("cut", store="velodrome.db").trials[0].state != "completed"


def test_studies_that_train_no_agents(velo: Velo, store: Path) -> None:
    done = velo("play", "digits")
    assert done.exit_code == 2
    assert "trains no agents" in done.stderr
    assert "velo train" in done.stderr
    assert velo("play", "dgits").exit_code == 4


def test_several_trials_and_none_completed(velo: Velo, monkeypatch: pytest.MonkeyPatch) -> None:
    from velodrome.rl.training import Training

    monkeypatch.setattr(Training, "final_figures", lambda _self: 1 / 0)
    study = sweep("two", 2, "all")
    done = velo("play", "two")
    assert done.exit_code == 4
    assert "velo play two TRIAL" in done.stderr
    assert velo("play", "two", "1").exit_code == 0
    with pytest.raises(NotFoundError):
        velo_api.play(study, 7)


@pytest.mark.parametrize(("args", "said"), [
    (["--episodes", "0"], "--episodes"), (["--fps", "0"], "--fps"), (["--weights", "first"], "best, last"),
    (["--video", "run.avi"], "FILE.mp4, FILE.gif"), (["--video", "no/run.gif"], "mkdir -p no"),
])
def test_what_makes_no_sense(args: list[str], said: str, velo: Velo) -> None:
    train()
    done = velo("play", "run", *args)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in done.stderr
