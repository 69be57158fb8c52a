from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from velodrome import signing
from velodrome.errors import VeloError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    signing._read_or_make.cache_clear()
    return tmp_path


def test_what_was_sealed_comes_back() -> None:
    assert signing.unseal(signing.seal(b"state")) == b"state"
    assert signing.unseal(signing.seal(b"")) == b""


def test_the_key_is_the_owners_alone() -> None:
    signing.seal(b"x")
    assert stat.S_IMODE(signing.key_path().stat().st_mode) == 0o600
    assert [path.name for path in signing.key_path().parent.iterdir()] == ["key"]


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_a_changed_bit_is_seen(place: int) -> None:
    sealed = bytearray(signing.seal(b"state"))
    sealed[place] ^= 1
    assert signing.unseal(bytes(sealed)) is None


def test_what_another_key_sealed_is_not_believed() -> None:
    sealed = signing.seal(b"state")
    signing.key_path().unlink()
    signing._read_or_make.cache_clear()
    assert signing.unseal(sealed) is None
    assert signing.unseal(b"") is None


def test_all_who_begin_at_once_get_one_key() -> None:
    def key(_: int) -> bytes:
        return signing._read_or_make.__wrapped__(signing.key_path())

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(key, range(32)))) == 1


def test_a_damaged_key_is_said(home: Path) -> None:
    (home / "velodrome").mkdir()
    signing.key_path().write_bytes(b"short")
    signing.key_path().chmod(0o600)
    with pytest.raises(VeloError, match="damaged"):
        signing.seal(b"x")


def test_a_key_that_others_can_read_is_not_used() -> None:
    sealed = signing.seal(b"x")
    signing._read_or_make.cache_clear()
    signing.key_path().chmod(0o640)
    with pytest.raises(VeloError, match="may be known to others"):
        signing.seal(b"x")
    assert signing.unseal(sealed) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_a_folder_that_cannot_be_written(home: Path) -> None:
    home.chmod(0o500)
    with pytest.raises(VeloError, match="no place"):
        signing.seal(b"x")
