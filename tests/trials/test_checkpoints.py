"""Checkpoints as files: whole or not there, never loaded damaged, and only deleted when nobody needs them."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from velodrome.location import files_dir
from velodrome.trials import checkpoints
from velodrome.trials.checkpoints import Kept, Written, clean, load, newest_sound, problem_with, remover

STATE = {"w": torch.arange(6.0), "a": np.arange(3), "note": "x", "t": (1, None)}


def save(folder: Path, step: int = 3, state: Any = STATE, attempt: int = 1) -> Written:
    return checkpoints.save(str(folder), "velodrome.files/s", 12, attempt, step, state)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "velodrome.files/s/000012").iterdir())


def test_it_is_where_the_docs_say_and_can_be_read_by_others(tmp_path: Path) -> None:
    written = save(tmp_path, 300, attempt=2)
    assert written.path == "velodrome.files/s/000012/step-00000300-a2"
    folder = tmp_path / written.path
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert set(files) == {"manifest.json", "state.json", "weights.safetensors", "arrays.safetensors"}
    assert written.size_bytes == sum(files.values())
    assert safetensors.numpy.load_file(folder / "weights.safetensors")["w"].tolist() == list(range(6))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["trial"], manifest["attempt"], manifest["step"]) == (1, 12, 2, 300)
    assert problem_with(folder, written.sha256) == ""
    state = load(folder)
    assert torch.equal(state["w"], STATE["w"])  # type: ignore[arg-type]  # a tensor
    assert (state["a"].tolist(), state["note"], state["t"]) == ([0, 1, 2], "x", (1, None))


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "weights.safetensors", "arrays.safetensors"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "grow", "remove", "empty"])
def test_any_damage_is_seen(tmp_path: Path, name: str, harm: str) -> None:
    written = save(tmp_path)
    path = tmp_path / written.path / name
    data = bytearray(path.read_bytes())
    for place in range(len(data)) if harm == "flip" else (len(data) // 2,):
        match harm:
            case "flip":
                data[place] ^= 1
                path.write_bytes(data)
                data[place] ^= 1
            case "truncate":
                path.write_bytes(data[:place])
            case "grow":
                path.write_bytes(data + b"\0")
            case "remove":
                path.unlink()
            case "empty":
                path.write_bytes(b"")
        problem = problem_with(tmp_path / written.path, written.sha256)
        assert name in problem, problem


def test_a_damaged_one_is_passed_over_for_the_one_before_it(tmp_path: Path) -> None:
    kept = [Kept(step, *save(tmp_path, step)[:2]) for step in (3, 2, 1)]
    (tmp_path / kept[0].path / "state.json").write_text("{}")
    found, skipped = newest_sound(tmp_path, kept)
    assert found == kept[1]
    assert skipped == [f"the checkpoint of step 3 is damaged: state.json has 2 bytes, not {_size(tmp_path, kept[1])}"]
    for checkpoint in kept[1:]:
        shutil.rmtree(tmp_path / checkpoint.path)
    found, skipped = newest_sound(tmp_path, kept)
    assert found is None
    assert "manifest.json can't be read: No such file" in skipped[2]


def _size(folder: Path, kept: Kept) -> int:
    return (folder / kept.path / "state.json").stat().st_size


def test_one_of_a_newer_format_is_refused_and_not_taken_for_damaged(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    written = save(tmp_path)
    monkeypatch.undo()
    assert problem_with(tmp_path / written.path, written.sha256) == ""
    with pytest.raises(ValueError, match="newer velodrome"):
        load(tmp_path / written.path)


def test_the_same_step_twice_overwrites_nothing(tmp_path: Path) -> None:
    first, second = save(tmp_path, 3, 1), save(tmp_path, 3, 2)
    assert names(tmp_path) == ["step-00000003-a1", "step-00000003-a1-2"]
    assert [load(tmp_path / w.path) for w in (first, second)] == [1, 2]


def test_a_state_that_can_not_be_kept_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['x'\]"):
        save(tmp_path, state={"x": object()})
    assert not (tmp_path / "velodrome.files").exists()


@pytest.mark.parametrize("failing", range(7))
def test_a_disk_that_fails_at_any_moment_leaves_the_one_before_and_nothing_else(
    tmp_path: Path, monkeypatch: Any, failing: int
) -> None:
    before = save(tmp_path, 1)
    calls = 0

    def fail(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > failing:
            raise OSError(28, "No space left on device")

    real_sync, real_rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (fail(), real_sync(fd))[1])
    monkeypatch.setattr(Path, "rename", lambda a, b: (fail(), real_rename(a, b))[1])
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert names(tmp_path) == ["step-00000001-a1"]
    assert problem_with(tmp_path / before.path, before.sha256) == ""


@pytest.mark.parametrize("big", [torch.ones(9999), np.ones(9999), "x" * 9999])
def test_no_room_for_the_data_is_an_error_of_the_system(tmp_path: Path, big: Any) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            save(tmp_path, state={"big": big})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []


def test_cleaning_deletes_what_the_log_does_not_know_and_nothing_of_the_users(tmp_path: Path) -> None:
    kept, orphan = save(tmp_path, 1), save(tmp_path, 2)
    trial = tmp_path / "velodrome.files/s/000012"
    (trial / ".unfinished-00000003-a1-77").mkdir()
    (trial / "mine").mkdir()
    (tmp_path / "velodrome.files/s/notes.txt").write_text("mine")
    (tmp_path / "velodrome.files/s/000013").mkdir()
    assert clean(tmp_path, "velodrome.files/s", [kept.path]) == 2
    assert names(tmp_path) == ["mine", "step-00000001-a1"]
    assert not (tmp_path / orphan.path).exists()
    assert sorted(p.name for p in (tmp_path / "velodrome.files/s").iterdir()) == ["000012", "notes.txt"]
    assert clean(tmp_path, "nothing.files/s", []) == 0


def test_a_trial_that_is_started_again_deletes_what_its_study_was_never_told_of(tmp_path: Path) -> None:
    kept, _untold = save(tmp_path, 1), save(tmp_path, 2)
    (tmp_path / "velodrome.files/s/000012/.unfinished-00000003-a1-77").mkdir()
    (tmp_path / "velodrome.files/s/000012/mine").mkdir()
    checkpoints.remove_leftovers(str(tmp_path), "velodrome.files/s", 12, [Kept(1, kept.path, kept.sha256)])
    assert names(tmp_path) == ["mine", "step-00000001-a1"]
    checkpoints.remove_leftovers(str(tmp_path), "velodrome.files/s", 13, [])


def test_deleting_touches_the_studys_own_folder_only(tmp_path: Path) -> None:
    written = save(tmp_path)
    remover(tmp_path, "copy.files/s")(written.path)
    assert (tmp_path / written.path).exists(), "a store that was copied names the files of the first"
    remover(tmp_path, "velodrome.files/s")(written.path)
    assert not (tmp_path / written.path).parent.exists()
    remover(tmp_path, "velodrome.files/s")(written.path)


@pytest.mark.parametrize("path", [
    "velodrome.files/s/../../precious", "velodrome.files/s/000012", "velodrome.files/s/000012/../../../precious",
    "/precious", "velodrome.files/s/000012/step-00000001-a1/../../../../precious",
])
def test_a_path_that_somebody_made_up_deletes_nothing(tmp_path: Path, path: str) -> None:
    written = save(tmp_path)
    (tmp_path / "precious").mkdir()
    remover(tmp_path, "velodrome.files/s")(path)
    assert (tmp_path / "precious").is_dir()
    assert (tmp_path / written.path).is_dir()


def test_no_two_stores_in_a_folder_share_their_files() -> None:
    stores = ["a.db", "a", "a.sqlite", "a.files", "a-files", "a.db.db"]
    assert len({files_dir(Path("/x", store), "s") for store in stores}) == len(stores)
    assert files_dir(Path("/x/velodrome.db"), "s") == "velodrome.files/s"


def test_an_earlier_checkpoint_that_is_lent_to_another_trial_is_no_leftover(tmp_path: Path) -> None:
    save(tmp_path, 2)
    kept = save(tmp_path, 4)
    save(tmp_path, 6)
    checkpoints.remove_leftovers(str(tmp_path), "velodrome.files/s", 12, [Kept(4, kept.path, kept.sha256)])
    assert names(tmp_path) == ["step-00000002-a1", "step-00000004-a1"]
