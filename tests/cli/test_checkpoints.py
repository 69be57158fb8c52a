"""Checkpoints from outside: what is kept, what ``velo show`` says of it, and what ``study.checkpoint`` gives back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import velodrome
from velodrome.errors import NotFoundError, UsageError
from velodrome.search.domains import Float
from velodrome.search.space import Space
from velodrome.study import Study

SPACE = Space(x=Float(0.0, 1.0))


def train(trial: Any) -> float:
    for step in (1, 2, 3):
        trial.checkpoint(step, {"step": step, "x": (trial.params["x"],)})
    return float(trial.params["x"])


def sweep(folder: Path, **options: Any) -> Study:
    return velodrome.sweep(train, SPACE, trials=5, sampler="random", seed=2, executor="inline", name="s",
                           store=folder / "velodrome.db", progress=False, **options)


def folders(folder: Path) -> int:
    return len(list((folder / "velodrome.files/s").glob("*/*")))


@pytest.mark.parametrize(("keep", "left"), [("best", 1), (3, 3), ("all", 5), ("none", 0)])
def test_the_last_checkpoints_of_the_best_trials_are_kept(tmp_path: Path, keep: str | int, left: int) -> None:
    study = sweep(tmp_path, keep_checkpoints=keep)
    assert folders(tmp_path) == left
    best = sorted(study.trials, key=lambda trial: trial.value or 0)
    for trial in best[:left]:
        assert study.checkpoint(trial) == {"step": 3, "x": (trial.params["x"],)}
        assert study.checkpoint(trial.number, step=3)["step"] == 3
    for trial in best[left:]:
        with pytest.raises(NotFoundError, match="--keep-checkpoints"):
            study.checkpoint(trial)


def test_a_checkpoint_that_is_not_there_or_damaged(tmp_path: Path) -> None:
    study = sweep(tmp_path)
    with pytest.raises(NotFoundError, match="allowed: step 3"):
        study.checkpoint(study.best, step=2)
    with pytest.raises(NotFoundError, match="no trial of that number"):
        study.checkpoint(77)
    [state] = (tmp_path / "velodrome.files/s").glob("*/*/state.json")
    state.write_text("{}")
    with pytest.raises(NotFoundError, match=r"no sound checkpoint(.|\n)*step 3 is damaged"):
        study.checkpoint(study.best)


def test_a_wrong_rule_makes_no_study(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="best, all, none, or a number"):
        sweep(tmp_path, keep_checkpoints="some")
    assert not (tmp_path / "velodrome.db").exists()


def test_show_says_what_there_is(tmp_path: Path, velo: Any) -> None:
    study = sweep(tmp_path)
    best = study.best.number
    [path] = (tmp_path / "velodrome.files/s").glob("*/*")
    size_bytes = sum(file.stat().st_size for file in path.iterdir())
    assert f"1 of 1 trial, {size_bytes:,} bytes" in velo("show", "s").stdout
    assert json.loads(velo("show", "s", "--json").stdout)["checkpoints"] == {
        "count": 1, "trials": 1, "size_bytes": size_bytes}
    assert f"velodrome.files/s/{best:06d}/step-00000003-a1" in velo("show", "s", str(best)).stdout
    [checkpoint] = json.loads(velo("show", f"s/{best}", "--json").stdout)["checkpoints"]
    assert (checkpoint["step"], checkpoint["size_bytes"]) == (3, size_bytes)


def test_a_copy_of_a_store_leaves_the_files_of_the_first_alone(tmp_path: Path) -> None:
    study = sweep(tmp_path, keep_checkpoints=1)
    (tmp_path / "copy.db").write_bytes((tmp_path / "velodrome.db").read_bytes())
    before = folders(tmp_path)
    velodrome.resume("s", train, trials=25, store=tmp_path / "copy.db", progress=False)
    copy = velodrome.load_study("s", store=tmp_path / "copy.db")
    assert copy.best.value < study.best.value, "the first one's best was replaced"
    assert folders(tmp_path) == before
    assert study.checkpoint(study.best)["step"] == copy.checkpoint(copy.best)["step"] == 3
