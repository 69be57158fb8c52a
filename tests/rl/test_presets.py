"""Presets: each is one that its algorithm takes, and those that a study found are what it found."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from velodrome.rl import settings
from velodrome.rl.algorithms import ALGORITHMS
from velodrome.rl.presets import PRESETS, preset

EVIDENCE = sorted(Path(__file__).parents[2].glob("benchmarks/presets/*.csv"))


@pytest.mark.parametrize(("algo", "env"), [(algo, env) for algo, envs in PRESETS.items() for env in envs])
def test_a_preset_is_made_of_settings_that_there_are(algo: str, env: str) -> None:
    config = settings.checked(ALGORITHMS[algo], preset(algo, env))
    assert all(getattr(config, name) == value for name, value in preset(algo, env).items())


def test_the_names_of_an_environment_share_a_preset() -> None:
    assert preset("ppo", "velodrome/CartPole-v1") == preset("ppo", "CartPole-v1") != {}
    assert preset("ppo", "Unknown-v0") == {}


def study_of(path: Path) -> tuple[str, str]:
    """The algorithm and environment that a study was of."""
    algo, env, *_ = path.read_text().partition("\n")[0].removeprefix("# ").split()
    return algo, env


def test_every_preset_has_its_study() -> None:
    found = {(algo, env.removeprefix("velodrome/").replace("MinAtar/", "MinAtar-"))
             for algo, env in map(study_of, EVIDENCE)}
    assert found == {(algo, env) for algo, envs in PRESETS.items() for env in envs}


@pytest.mark.parametrize("path", EVIDENCE, ids=[path.stem for path in EVIDENCE])
def test_a_preset_is_the_winner_of_its_study(path: Path) -> None:
    algo, env = study_of(path)
    with path.open(newline="") as file:
        next(file)
        rows = list(csv.DictReader(file))
    last = rows[-1]["stage"]
    assert last in ("final", "runoff")
    winner = max((row for row in rows if row["stage"] == last), key=lambda row: float(row["return"]))
    assert len([row for row in rows if row["stage"] == "search"]) >= 10
    now = settings.checked(ALGORITHMS[algo], preset(algo, env))
    for name in [name for name in winner if name not in ("stage", "trial", "return")]:
        value = getattr(now, name)
        if isinstance(value, float):
            assert value == pytest.approx(float(winner[name]), rel=0.02)
        else:
            assert str(value) == winner[name]
