"""The search for presets: what its store has already is not paid for twice."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import velodrome as velo
from benchmarks import presets
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

    def two_trials(name: str, store: Path) -> velo.Study:
        return velo.sweep(str(tmp_path / "train.py"), space, trials=2, name=name, sampler="random", store=store,
                          executor="inline", progress=False)

    found = []
    for wanted in (2, 3, 3):
        study = whole_study("s", store, wanted, space, two_trials)
        found.append((len(study.trials), len((tmp_path / "ran").read_text())))
    assert found == [(2, 2), (3, 3), (3, 3)]
    with pytest.raises(SystemExit, match="x was Float"):
        whole_study("s", store, 3, velo.Space(x=velo.Float(0.0, 2.0)), two_trials)


def test_the_best_two_meet_again_over_other_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = presets.Search("ppo", "CartPole-v1", 512, 2, ("lr=1e-4..1e-2:log",), runoff=(2, 1_024))
    monkeypatch.setattr(presets, "SEARCHES", {"tiny": search})
    monkeypatch.setattr(presets, "EVIDENCE", tmp_path)
    monkeypatch.setattr(presets, "SEEDS", 1)
    presets.run("tiny", tmp_path / "velodrome.db")
    head, *lines = (tmp_path / "tiny.csv").read_text().splitlines()
    assert head == "# ppo CartPole-v1 512 steps; final: IQM of 1 seeds; runoff: of 2 others, 1024 steps"
    rows = list(csv.DictReader(lines))
    assert [row["stage"] for row in rows] == ["search"] * 2 + ["final"] * 3 + ["runoff"] * 2
    finals = [float(row["return"]) for row in rows if row["stage"] == "final"]
    assert finals == sorted(finals, reverse=True)
    assert {row["trial"] for row in rows[-2:]} == {row["trial"] for row in rows[2:4]}
    best = rows[2]["trial"].replace(" ", "-")
    final, runoff = ({trial.seed for trial in velo.load_study(study, store=tmp_path / "velodrome.db").trials}
                     for study in (f"tiny-{best}", f"tiny-runoff-{best}"))
    assert len(runoff) == 2
    assert not final & runoff
