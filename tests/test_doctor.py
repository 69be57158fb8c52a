"""The checks of velo doctor, over values that stand for machines in trouble."""

from __future__ import annotations

from pathlib import Path

import pytest

from velodrome.doctor import (
    Check,
    Status,
    check_disk,
    check_extras,
    check_filesystem,
    check_machine,
    check_python,
    check_sqlite,
    check_store,
    check_torch,
    checks,
)
from velodrome.resources.gpus import Gpu
from velodrome.resources.inventory import Inventory
from velodrome.store.writer import Writer

GIB = 1024**3


@pytest.mark.parametrize(("version", "status"), [
    ("2.9.1", Status.BAD), ("2.9.1+cu126", Status.BAD), ("2.10.0", Status.OK), ("2.13.0+cpu", Status.OK),
    ("3.0a1", Status.OK), (None, Status.BAD),
])
def test_torch_before_2_10_is_bad(version: str | None, status: Status) -> None:
    check = check_torch(version)
    assert check.status is status
    assert ("pip install" in check.advice) == (status is Status.BAD)


@pytest.mark.parametrize(("version", "status"), [((3, 40, 1), Status.WARN), ((3, 51, 3), Status.OK)])
def test_sqlite_with_the_race_is_a_warning(version: tuple[int, int, int], status: Status) -> None:
    assert check_sqlite(version).status is status


def test_python() -> None:
    assert check_python((3, 10, 4)).status is Status.BAD
    assert check_python((3, 11, 0)).status is Status.OK


def test_a_network_file_system_is_bad() -> None:
    assert check_filesystem(Path("a.db"), "nfs4").status is Status.BAD
    assert check_filesystem(Path("a.db"), "").status is Status.OK


def test_a_nearly_full_disk_is_a_warning() -> None:
    assert check_disk(Path("a.db"), 100).status is Status.WARN
    assert check_disk(Path("a.db"), 2 * GIB) == Check("disk", Status.OK, "2 GiB free where the store is")


def test_the_machine_with_its_limits() -> None:
    gpu = Gpu(3, "GPU-x", "Card", 24 * GIB, 20 * GIB)
    inventory = Inventory(2, 8 * GIB, GIB, (gpu,), ("cores: 8 are here, and the control group allows 2",))
    assert [(check.name, check.detail) for check in check_machine(inventory)] == [
        ("cores", "2; cores: 8 are here, and the control group allows 2"),
        ("memory", "1 GiB of 8 GiB free"),
        ("gpu 3", "Card, 20 GiB of 24 GiB free, GPU-x"),
    ]


def test_no_gpu_says_why() -> None:
    found = list(check_machine(Inventory(1, GIB, GIB, (), ("no GPUs: Driver Not Loaded",))))
    assert found[-1] == Check("gpus", Status.OK, "none; no GPUs: Driver Not Loaded")


def test_extras() -> None:
    check = check_extras({"atari": "0.12", "box2d": None, "mujoco": None})
    assert check.detail == "installed: atari 0.12"
    assert "velodrome[box2d,mujoco]" in check.advice


def test_a_store_that_is_not_there_is_fine(tmp_path: Path) -> None:
    check = check_store(tmp_path / "none.db")
    assert check.status is Status.OK
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_store_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("shopping list\n" * 100)
    assert check_store(path).status is Status.BAD
    assert path.read_text() == "shopping list\n" * 100


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of several pages, without a study."""
    path = tmp_path / "results.db"
    Writer(path).close()
    return path


def test_a_sound_store(store: Path) -> None:
    check = check_store(store)
    assert check.status is Status.OK
    assert "sound" in check.detail
    assert check.detail.endswith("0 studies")


def test_a_damaged_store_is_bad_and_is_left_as_it_is(store: Path) -> None:
    damaged = bytearray(store.read_bytes())
    damaged[len(damaged) // 2:] = b"\xa5" * (len(damaged) - len(damaged) // 2)
    store.write_bytes(damaged)
    check = check_store(store)
    assert check.status is Status.BAD
    assert check.advice
    assert store.read_bytes() == damaged


def test_all_of_them_on_this_machine(tmp_path: Path) -> None:
    found = checks(tmp_path / "deep" / "results.db")
    assert [check.name for check in found][:5] == ["python", "torch", "sqlite", "store", "filesystem"]
    assert all(check.detail for check in found)
    assert all(check.advice for check in found if check.status is not Status.OK)
