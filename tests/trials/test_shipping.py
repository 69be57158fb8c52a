"""The user's code on its way to another machine."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from velodrome.errors import UsageError
from velodrome.trials import shipping
from velodrome.trials.executor import ObjectiveInfo
from velodrome.trials.objective import ObjectiveSource, PackedObjective
from velodrome.trials.shipping import Moved, Sources


def folder_of_code(tmp_path: Path) -> Path:
    code = tmp_path / "mine"
    for name in ("train.py", "helpers/deep.py", "helpers/__init__.py", ".hidden/x.py", "env/lib/y.py", "data.csv"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(f"# {name}\n")
    (code / "env" / "pyvenv.cfg").touch()
    (code / "train.py").write_text("from helpers import deep\ndef train(trial): return 1.0\n")
    return code


def packed(ref: str, cwd: Path) -> PackedObjective:
    return ObjectiveSource.of(ref, str(cwd)).pack()


def test_python_files_travel_and_nothing_else(tmp_path: Path) -> None:
    code = folder_of_code(tmp_path)
    sources = Sources.of(packed("mine/train.py", tmp_path), "")
    assert sources.root == str(code)
    assert [name for name, _ in sources.files] == ["train.py", "helpers/__init__.py", "helpers/deep.py"]


def test_a_machine_that_has_the_code_runs_it_where_it_is(tmp_path: Path) -> None:
    folder_of_code(tmp_path)
    objective = packed("mine/train.py", tmp_path)
    placed, moved = Sources.of(objective, "").place(objective, tmp_path / "copies")
    assert placed == objective
    assert moved == Moved()
    assert not (tmp_path / "copies").exists()


@pytest.mark.parametrize("change", ["gone", "other", "partly"])
def test_a_machine_that_does_not_have_it_runs_copies(tmp_path: Path, change: str) -> None:
    code, copies = folder_of_code(tmp_path), tmp_path / "copies"
    objective = packed("mine/train.py:train", tmp_path)
    sources = Sources.of(objective, "")
    if change == "gone":
        shutil.rmtree(code)
    elif change == "other":
        (code / "helpers/deep.py").write_text("1 / 0")
    else:
        (code / "helpers/deep.py").unlink()
    placed, moved = sources.place(objective, copies)
    assert placed.ref == f"{copies}/train.py:train"
    assert (copies / "helpers/deep.py").read_text() == "# helpers/deep.py\n"
    info = ObjectiveInfo("train", placed.ref, file=f"{copies}/train.py")
    assert moved.info(info) == replace(info, ref=f"{code}/train.py:train", file=f"{code}/train.py")
    failure: dict[str, str | int] = {"file": f"{copies}/helpers/deep.py", "line": 3, "traceback": f'File "{copies}/x"'}
    assert moved.failure(failure) == {"file": f"{code}/helpers/deep.py", "line": 3, "traceback": f'File "{code}/x"'}


def test_a_module_brings_the_folder_that_it_is_found_from(tmp_path: Path) -> None:
    code = folder_of_code(tmp_path)
    objective = packed("helpers.deep:train", code)
    sources = Sources.of(objective, "")
    assert sources.root == str(code)
    shutil.rmtree(code)
    placed, _ = sources.place(objective, tmp_path / "copies")
    assert placed.ref == "helpers.deep:train"
    assert placed.cwd == str(tmp_path / "copies")


def test_a_function_brings_the_folder_on_the_path_that_its_file_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = folder_of_code(tmp_path)
    monkeypatch.setattr(sys, "path", [str(code), *sys.path])
    objective = ObjectiveSource.of(test_python_files_travel_and_nothing_else).pack()
    sources = Sources.of(objective, str(code / "helpers" / "deep.py"))
    assert sources.root == str(code)
    shutil.rmtree(code)
    placed, _ = sources.place(objective, tmp_path / "copies")
    assert placed.sys_path == tuple(str(tmp_path / "copies") if p == str(code) else p for p in objective.sys_path)
    assert placed.cwd == objective.cwd


@pytest.mark.parametrize("ref", ["velodrome.rl.algorithms:train_once", "numpy:dot", "json:loads"])
def test_what_is_installed_everywhere_does_not_travel(ref: str, tmp_path: Path) -> None:
    assert Sources.of(packed(ref, tmp_path), "") == Sources()


def test_a_function_without_a_file_needs_none(tmp_path: Path) -> None:
    objective = ObjectiveSource.of(eval("lambda trial: 1.0")).pack()
    assert Sources.of(objective, "<string>") == Sources()


def test_a_folder_with_too_much_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_code(tmp_path)
    monkeypatch.setattr(shipping, "MAX_FILES", 2)
    with pytest.raises(UsageError, match="a folder of its own"):
        Sources.of(packed("mine/train.py", tmp_path), "")
