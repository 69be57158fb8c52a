"""The search for presets: what its store has already is not paid for twice."""

from __future__ import annotations

from pathlib import Path

import pytest

import velodrome as velo
from benchmarks.presets import whole_study

OBJECTIVE = """
from pathlib import Path
def train(trial):
    with Path(__file__).with_name("ran").open("a") as file:
        file.write("x")
    return trial.params["x"]
"""


def test_a_study_is_started_then_gone_on_with_then_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(OBJECTIVE)
    store, space = tmp_path / "velodrome.db", velo.Space(x=velo.Float(0.0, 1.0))

    def two_trials(name: str) -> velo.Study:
        return velo.sweep(str(tmp_path / "train.py"), space, trials=2, name=name, sampler="random", store=store,
                          executor="inline", progress=False)

    found = []
    for wanted in (2, 3, 3):
        study = whole_study("s", store, wanted, space, two_trials)
        found.append((len(study.trials), len((tmp_path / "ran").read_text())))
    assert found == [(2, 2), (3, 3), (3, 3)]
    with pytest.raises(SystemExit, match="x was Float"):
        whole_study("s", store, 3, velo.Space(x=velo.Float(0.0, 2.0)), two_trials)
