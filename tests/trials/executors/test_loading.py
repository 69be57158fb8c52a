"""Finding and loading objectives: references, which function of a file, what the launcher preloads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import velodrome as velo
from tests.support.lines import Lines
from velodrome.errors import ObjectiveError, SpaceError, UsageError
from velodrome.trials.declaration import describe
from velodrome.trials.objective import ObjectiveSource, imports_of, load_objective


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(tmp_path: Path, text: str, name: str = "") -> str:
    """The name of the function that is found in a file of that text."""
    (tmp_path / "some_file.py").write_text(text)
    function, ref = load_objective("some_file.py" + name, str(tmp_path))
    assert ref == f"{(tmp_path / 'some_file.py').resolve()}:{function.__name__}"
    return function.__name__


@pytest.mark.parametrize(("text", "expected"), [
    ("def a(x): pass\ndef train(trial): pass\ndef b(trial): pass\n", "train"),
    ("def a(x): pass\ndef objective(t): pass\ndef b(trial): pass\n", "objective"),
    ("def a(x): pass\ndef fit(trial): pass\ndef _c(trial): pass\n", "fit"),
    ("import velodrome as velo\ndef train(trial): pass\n@velo.objective\ndef mine(trial): pass\n", "mine"),
    ("import velodrome\ndef train(trial): pass\n@velodrome.objective(goal='min x')\ndef mine(trial): pass\n", "mine"),
])
def test_which_function_is_the_objective(tmp_path: Path, text: str, expected: str) -> None:
    assert load(tmp_path, text) == expected


@pytest.mark.parametrize(("text", "name", "words"), [
    ("def a(trial): pass\ndef b(trial): pass\n", "", ["Several functions", "a, b", "some_file.py:a"]),
    ("def train(trial): pass\ndef objective(trial): pass\n", "", ["Several functions", "train, objective"]),
    ("from json import loads\n", "", ["No function"]),
    ("def train(trial): pass\n", ":trian", ["has no 'trian'", "Did you mean 'train'?"]),
    ("train = 3\n", ":train", ["'train' in some_file.py is no function", "int"]),
    ("def train(trial, lr): pass\n", ":train", ["'train' can't be called with a trial alone", "train(trial, lr)"]),
    ("def train(trial): pass\n", ":a b", ["not understood", "FILE.py:NAME"]),
])
def test_a_function_that_is_not_found(tmp_path: Path, text: str, name: str, words: list[str]) -> None:
    with pytest.raises(ObjectiveError) as caught:
        load(tmp_path, text, name)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    with pytest.raises(ObjectiveError, match=r"Did you mean 'train\.py'"):
        load_objective("trian.py", str(tmp_path))
    with pytest.raises(ObjectiveError, match="There is no module 'nothing_here'"):
        load_objective("nothing_here.train:fit", str(tmp_path))


def test_a_files_neighbours_can_be_imported_and_its_classes_pickled(tmp_path: Path) -> None:
    (tmp_path / "my_neighbour.py").write_text("VALUE = 4\n")
    (tmp_path / "with_class.py").write_text(
        "import pickle, my_neighbour\nclass Net: pass\ndef train(trial):\n"
        "    pickle.loads(pickle.dumps(Net()))\n    return my_neighbour.VALUE\n"
    )
    function, _ = load_objective("with_class.py", str(tmp_path))
    assert function(None) == 4


def test_a_file_named_like_a_library_does_not_hide_it(tmp_path: Path) -> None:
    import json

    (tmp_path / "json.py").write_text("def train(trial): return 1.0\n")
    function, _ = load_objective("json.py", str(tmp_path))
    assert function(None) == 1.0
    assert sys.modules["json"] is json


def test_a_module_is_found_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "steps.py").write_text("def fit(trial): return 1.0\n")
    function, ref = load_objective("my_package.steps:fit", str(tmp_path))
    assert function(None) == 1.0
    assert ref == "my_package.steps:fit"


def test_preloads_are_what_the_file_imports_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "imports.py"
    file.write_text(
        "import numpy as np\nimport requests, os.path\nfrom sklearn.datasets import load_digits\nfrom . import pandas\n"
        "def train(trial):\n    import torch.nn\n    s = 'import optuna'\n"
    )
    assert imports_of(str(file)) == ("numpy", "torch", "sklearn")
    file.write_text("import velodrome as velo\nimport torch\nclass Digits(velo.TrainingJob):\n    pass\n")
    assert imports_of(str(file)) == ("torch", "velodrome.trials.fused.group_worker")
    file.write_text("import numpy\n(")
    assert imports_of(str(file)) == ()
    assert imports_of(str(tmp_path / "missing.py")) == ()


def test_the_decorator_leaves_the_function_as_it_is() -> None:
    def train(trial: Any) -> float:
        return float(trial)

    assert velo.objective(goal="maximize accuracy")(train) is train
    assert train(2) == 2.0


def test_the_decorators_mistakes_are_told_at_once() -> None:
    with pytest.raises(UsageError, match="goal is not understood"):
        velo.objective(goal="accuracy")
    with pytest.raises(SpaceError, match="not a search space"):
        velo.objective({"x": 1})  # type: ignore[call-overload]


def test_a_packed_function_of_an_importable_module_has_a_reference(tmp_path: Path) -> None:
    (tmp_path / "importable.py").write_text("def train(trial): return 1.0\n")
    sys.path.insert(0, str(tmp_path))
    import importable  # type: ignore[import-not-found]

    packed = ObjectiveSource.of(importable.train).pack()
    assert packed.ref == f"{(tmp_path / 'importable.py').resolve()}:train"
    assert packed.load() == (importable.train, packed.ref)
    assert ObjectiveSource.of(lambda trial: 1.0).pack().ref == ""


JOB = """
import velodrome as velo
from tests.support.lines import Lines
class {name}({base}):
    space = velo.Space(x=velo.Float(0, 1))
    goal = "maximize score"
    def data(self): pass
    def model(self, params): pass
    def loss(self, model, batch, params): pass
    def {optimizer}(self, params): pass
"""


def job(name: str = "Mine", base: str = "velo.TrainingJob", optimizer: str = "optimizer") -> str:
    return JOB.format(name=name, base=base, optimizer=optimizer)


@pytest.mark.parametrize(("text", "name"), [
    (job(), ""), (job() + "def train(trial): pass\n", ""), (job() + job("Other"), ":Mine"),
    (job("Base") + job("Mine", "Base"), ""), ("from velodrome import TrainingJob\n" + job(), ""),
])
def test_a_class_of_training_jobs_is_found_and_made(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "some_file.py").write_text(text)
    function, ref = load_objective("some_file.py" + name, str(tmp_path))
    info = describe(function, ref)
    assert (info.name, info.goal, info.fuses) == ("Mine", "maximize score", True)
    assert ref == f"{(tmp_path / 'some_file.py').resolve()}:Mine"
    assert info.file == str((tmp_path / "some_file.py").resolve())


@pytest.mark.parametrize(("text", "words"), [
    (job() + job("Other"), ["Several", "Mine, Other"]),
    (job(optimizer="optimiser"), ["'Mine' is not complete", "no optimizer", "Did you mean 'optimiser'?"]),
    (job() + "    def __init__(self, size): pass\n", ["'Mine' can't be made", "size", "velo.sweep(Mine(...))"]),
])
def test_a_training_job_that_will_not_do(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "some_file.py").write_text(text)
    with pytest.raises(ObjectiveError) as caught:
        load_objective("some_file.py", str(tmp_path))
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_job_with_a_wrong_goal_or_space_says_so() -> None:
    class Wrong(Lines):
        goal = "bigger error"

    with pytest.raises(UsageError, match="goal is not understood"):
        describe(Wrong(), "")
    Wrong.goal, Wrong.space = "minimize error", {"lr": 1}  # type: ignore[assignment]  # wrong on purpose
    with pytest.raises(SpaceError, match="not a search space"):
        describe(Wrong(), "")


def test_a_job_that_holds_nothing_travels_as_its_class_and_never_with_its_data() -> None:
    made = Lines()
    made.dataset()
    source = ObjectiveSource.of(made)
    assert source.objective is Lines
    again, ref = source.pack().load()
    assert ref.endswith("lines:Lines")
    assert isinstance(again, Lines)
    made.scale = 3  # type: ignore[attr-defined]  # a setting of the user's
    assert ObjectiveSource.of(made).objective is made
    assert set(made.__getstate__()) == {"scale"}
