"""Checkpoints that travel: what arrives is what was sent, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from velodrome.trials import checkpoint_files, checkpoints
from velodrome.trials.checkpoints import Kept

STATE = {"weights": torch.arange(12.0).reshape(3, 4), "step": 3}


def test_a_checkpoint_arrives_as_it_was_sent(tmp_path: Path) -> None:
    node, head = tmp_path / "node", tmp_path / "head"
    for folder in (node, head):
        folder.mkdir()
    written = checkpoints.save(str(node), "files/s", 7, 2, 3, STATE)
    received = checkpoint_files.receive(str(head), written.path, checkpoint_files.read(node / written.path))
    assert received == written
    assert checkpoints.problem_with(head / received.path, received.sha256) == ""
    assert torch.equal(checkpoints.load(head / received.path)["weights"], STATE["weights"])
    assert [p.name for p in (head / "files/s/000007").iterdir()] == ["step-00000003-a2"]


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    files = {"manifest.json": b"{}"}
    paths = [checkpoint_files.receive(str(tmp_path), "f/s/000001/step-00000001-a1", files).path for _ in range(2)]
    assert paths == ["f/s/000001/step-00000001-a1", "f/s/000001/step-00000001-a1-2"]


def test_a_disk_that_is_full_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint_files.receive(str(tmp_path), "f/s/000001/step-00000001-a1", {"manifest.json": b"{}"})
    assert list((tmp_path / "f/s/000001").iterdir()) == []


def test_copies_are_as_good_or_as_bad_as_what_they_are_copies_of(tmp_path: Path) -> None:
    node, head = tmp_path / "node", tmp_path / "head"
    head.mkdir()
    good, bad = (checkpoints.save(str(head), "files/s", 1, 1, step, STATE) for step in (1, 2))
    (head / bad.path / "state.json").write_text("null")
    kept = [Kept(2, bad.path, bad.sha256), Kept(1, good.path, good.sha256), Kept(0, "files/s/000001/gone", "")]
    checkpoint_files.write_copies(node, checkpoint_files.read_kept(str(head), kept))
    for again in range(2):
        found, skipped = checkpoints.newest_sound(node, kept)
        assert found == kept[1], again
        assert "state.json" in skipped[0]
        checkpoint_files.write_copies(node, checkpoint_files.read_kept(str(head), kept))
    assert checkpoints.problem_with(node / "files/s/000001/gone", "").startswith("manifest.json can't be read")


def test_a_copy_stays_inside_its_folder(tmp_path: Path) -> None:
    checkpoint_files.write_copies(tmp_path / "node", {"c": {"../../outside": b"x"}})
    assert not (tmp_path / "outside").exists()
    assert (tmp_path / "node/c/outside").read_bytes() == b"x"


def test_what_arrives_stays_inside_its_folder(tmp_path: Path) -> None:
    checkpoint_files.receive(str(tmp_path), "f/s/000001/step-00000001-a1", {"../../../../evil": b"x"})
    assert [path.name for path in tmp_path.rglob("evil")] == ["evil"]
    assert (tmp_path / "f/s/000001/step-00000001-a1/evil").is_file()
