"""``train``, and ``sweep`` of an algorithm, as a person runs them; and what happens when a run is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import velodrome as velo
from tests.support.campaign import family, kill9, rows, start, wait_for, wait_until_gone
from tests.support.campaign import velo as run_velo
from velodrome.rl.algorithms import ALGORITHMS, RunConfig
from velodrome.rl.settings import about

TINY = ("-p", "num_envs=4", "-p", "num_steps=16", "-p", "epochs=1", "-p", "eval_episodes=2")
"""64 steps an update."""


def test_a_run_from_its_command_to_the_answers_about_it(tmp_path: Path) -> None:
    code, out, err = run_velo(tmp_path, "train", "ppo", "--env", "CartPole-v1", "--steps", "640", "--seed", "1", *TINY)
    assert code == 0, err
    number, value, *params = out.split()
    assert number == "0"
    assert 1 <= float(value) <= 500
    assert {"algo=ppo", "env=CartPole-v1", "steps=640", "num_envs=4", "gamma=0.99"} <= set(params)
    assert "ppo-CartPole-v1: 1 of 1 trials in" in err
    reported = dict(rows(tmp_path, "select name, count(*) from metrics group by name"))
    names = {"length", "loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction",
             "explained_variance", "steps_per_s", "learning_rate", "return"}
    assert set(reported) >= names
    assert reported["loss"] == 10
    assert rows(tmp_path, "select max(step) from metrics") == [(640,)]
    code, out, _ = run_velo(tmp_path, "best", "ppo-CartPole-v1", "--json")
    assert code == 0
    assert json.loads(out)["params"]["lr"] == 0.00208


def test_the_same_from_python(tmp_path: Path) -> None:
    given = {"num_envs": 4, "num_steps": 16, "epochs": 1, "eval_episodes": 2}
    study = velo.train(
        "ppo", "velodrome/ProbeAction-v0", steps=128, seed=1, store=tmp_path / "v.db", executor="inline",
        progress=False, **given,
    )
    assert study.name == "ppo-ProbeAction-v0"
    assert str(study.goal) == "maximize return"
    best = study.best
    assert best.params["lr"] == 3e-4
    assert best.metrics.keys() >= {"return", "return_std", "length", "return_stochastic", "best_return"}
    weights = study.checkpoint(best)["learner"]["weights"]
    assert weights.numel() == 2 * (64 + 64 + 64 * 64 + 64) + (64 * 2 + 2) + (64 + 1)


CONTINUOUS = ("-p", "num_envs=4", "-p", "width=16", "-p", "batch_size=32", "-p", "learning_starts=100", "-p",
              "eval_episodes=2")
RUNS = {
    "ppo": ("--env", "CartPole-v1", *TINY),
    "dqn": ("--env", "CartPole-v1", *CONTINUOUS),
    "sac": ("--env", "Pendulum-v1", *CONTINUOUS),
    "crossq": ("--env", "Pendulum-v1", *CONTINUOUS, "-p", "critic_width=16"),
    "td7": ("--env", "Pendulum-v1", *CONTINUOUS, "-p", "embedding=16"),
}
MANY, FEW = ("--steps", "3200"), ("--steps", "1280")
"""What is killed: with many steps it has tens of checkpoints, or (off policy) a dozen."""


def weights_of(study: velo.Study) -> dict[str, torch.Tensor]:
    """Every tensor of the learner in the last checkpoint, by its path."""
    found: dict[str, torch.Tensor] = {}

    def walk(part: Any, path: str) -> None:
        if isinstance(part, torch.Tensor):
            found[path] = part
        elif isinstance(part, dict):
            for name, value in part.items():
                walk(value, f"{path}/{name}")

    walk(study.checkpoint(0)["learner"], "")
    return found


def kill_and_resume(
    folder: Path, algo: str, steps: tuple[str, ...], name: str, *, at_checkpoint: int = 0, after_s: float = 0.0
) -> None:
    """A run that is killed with all its processes, at its n-th checkpoint or so long after the first, then resumed."""
    process = start(folder, "train", algo, *RUNS[algo], *steps, "--seed", "5", "-p", "checkpoint_s=0", "--name",
                    name)
    count = ("select count(*) from events where kind = 'checkpointed' and study_id = "
             f"(select id from studies where name = '{name}')")
    wait_for(lambda: (rows(folder, count) or [(0,)])[0][0] >= max(1, at_checkpoint), 60)
    time.sleep(after_s)
    everyone = family(process)
    kill9(process)
    process.communicate(timeout=20)
    wait_until_gone(everyone)
    code, _, err = run_velo(folder, "resume", name)
    assert code == 0, err


def assert_alike(folder: Path, name: str) -> None:
    whole, cut = (velo.load_study(study, store=folder / "velodrome.db") for study in ("whole", name))
    theirs, ours = weights_of(whole), weights_of(cut)
    assert theirs.keys() == ours.keys()
    assert [path for path in ours if not torch.equal(ours[path], theirs[path])] == []
    assert cut.best.value == whole.best.value
    asked = "select name, step, value from reports where study = :study and name <> 'steps_per_s' order by 1, 2"
    assert cut.query(asked) == whole.query(asked)


def run_whole(folder: Path, algo: str, steps: tuple[str, ...]) -> None:
    code, _, err = run_velo(folder, "train", algo, *RUNS[algo], *steps, "--seed", "5", "-p", "checkpoint_s=0",
                            "--name", "whole")
    assert code == 0, err


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_killed_run_goes_on_to_the_weights_of_the_undisturbed_one(algo: str, tmp_path: Path) -> None:
    run_whole(tmp_path, algo, FEW)
    kill_and_resume(tmp_path, algo, FEW, "cut", at_checkpoint=2)
    assert rows(tmp_path, "select count(*) from events where kind = 'launched' and study_id = "
                          "(select id from studies where name = 'cut')") == [(2,)]
    assert_alike(tmp_path, "cut")


@pytest.mark.slow
@pytest.mark.parametrize("algo", list(RUNS))
def test_killed_at_ten_random_moments(algo: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    run_whole(tmp_path, algo, MANY)
    for i in range(10):
        kill_and_resume(tmp_path, algo, MANY, f"cut{i}", after_s=float(rng.uniform(0.0, 1.0)))
        assert_alike(tmp_path, f"cut{i}")


def test_several_seeds_are_summed_up(tmp_path: Path) -> None:
    code, out, err = run_velo(tmp_path, "train", "ppo", "--env", "CartPole-v1", "--steps", "320", "--seed", "1",
                              "--seeds", "3", *TINY)
    assert code == 0, err
    assert "return: IQM " in err
    assert "(3 seeds)" in err
    seeds = rows(tmp_path, "select count(distinct seed), count(*) from trials")
    assert seeds == [(3, 3)]
    assert len(out.splitlines()) == 1


def test_an_algorithm_can_be_swept(tmp_path: Path) -> None:
    code, out, err = run_velo(
        tmp_path, "sweep", "ppo", "--env", "velodrome/ProbeAction-v0", "--steps", "256", "--trials", "3", "--sampler",
        "random", "--seed", "1", "--json", "-p", "num_envs=4", "-p", "num_steps=16", "-p", "eval_episodes=2",
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["study"] == "ppo-ProbeAction-v0"
    assert result["goal"] == "maximize return"
    assert result["counts"] == {"completed": 3}
    swept = rows(tmp_path, "select name, count(distinct value) from params group by name")
    assert {name for name, count in swept if count > 1} >= {"lr", "gae_lambda", "entropy_coef"}
    assert dict(swept)["num_envs"] == 1


@pytest.mark.parametrize(("args", "said"), [
    (["pppo", "--env", "CartPole-v1"], ["There is no such algorithm", "Did you mean 'ppo'"]),
    (["ppo", "--env", "CartPol-v1"], ["There is no such environment", "Did you mean 'CartPole-v1'"]),
    (["ppo", "--env", "CartPole-v1", "-p", "epoch=3"], ["There is no such setting", "Did you mean 'epochs'"]),
    (["ppo", "--env", "CartPole-v1", "-p", "lr=fast"], ["'lr' can't be that", "a number from 0 to 10"]),
    (["ppo", "--env", "CartPole-v1", "-p", "epochs=0"], ["'epochs' can't be that", "a whole number from 1"]),
    (["ppo", "--env", "CartPole-v1", "-p", "activation=elu"], ["'activation' can't be that", "tanh, relu"]),
    (["ppo", "--env", "CartPole-v1", "-p", "epochs"], ["NAME=VALUE"]),
    (["ppo", "--env", "CartPole-v1", "--steps", "0"], ["steps=0"]),
    (["dqn", "--env", "CartPole-v1", "-p", "v_min=9", "-p", "v_max=-9", "-p", "distributional=categorical"],
     ["v_min=9, v_max=-9", "v_min below v_max"]),
    (["ppo", "--env", "no_such.py:Env"], ["There is no such file", "no_such.py"]),
    (["ppo"], ["--env"]),
])
def test_what_makes_no_sense_is_refused_before_there_is_a_study(
    args: list[str], said: list[str], tmp_path: Path
) -> None:
    code, out, err = run_velo(tmp_path, "train", *args)
    assert code == 2
    assert out == ""
    assert all(text in err for text in said)
    assert not (tmp_path / "velodrome.db").exists()


STRANGE = """\
import gymnasium as gym
import numpy as np

class Strange(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = {action_space}
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {{}}
    def step(self, action):
        return np.full(2, {obs}, np.float32), 0.0, False, self.np_random.random() < 0.1, {{}}
"""


def test_an_action_space_that_ppo_cannot_serve(tmp_path: Path) -> None:
    (tmp_path / "strange.py").write_text(STRANGE.format(action_space="gym.spaces.Text(5)", obs="0"))
    code, _, err = run_velo(tmp_path, "train", "ppo", "--env", "strange.py:Strange", "--steps", "100")
    assert code == 6
    assert "Discrete, MultiDiscrete, MultiBinary, Box" in err
    assert "then train anew with what is allowed" in err


def test_an_environment_of_ones_own_and_one_that_gives_nan(tmp_path: Path) -> None:
    (tmp_path / "strange.py").write_text(STRANGE.format(action_space="gym.spaces.MultiDiscrete([2, 3])", obs="0.5"))
    code, _, err = run_velo(tmp_path, "train", "ppo", "--env", "strange.py", "--steps", "100", *TINY)
    assert code == 0, err
    (tmp_path / "strange.py").write_text(STRANGE.format(action_space="gym.spaces.Discrete(2)", obs="np.nan"))
    code, _, err = run_velo(tmp_path, "train", "ppo", "--env", "strange.py", "--steps", "100", *TINY, "--name", "nan")
    assert code == 6
    assert rows(tmp_path, "select failure_class from trials where state = 'failed'") == [("diverged",)]
    code, out, _ = run_velo(tmp_path, "why", "nan", "0")
    assert "observations: nan" in out


HELP = """\
import sys
from velodrome.cli.main import cli
try:
    cli.main(["train", "--help"], prog_name="velo")
except SystemExit:
    print([m for m in ("torch", "numpy", "gymnasium", "numba", "optuna") if m in sys.modules])
"""


def test_the_help_lists_every_setting_and_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for config in (*ALGORITHMS.values(), RunConfig):
        for name, known in about(config).items():
            assert f"{name}=" in done.stdout
            assert known.doc.split()[0] in done.stdout
