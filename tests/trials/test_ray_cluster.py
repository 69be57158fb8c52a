"""Reaching a Ray cluster: addresses and tokens. Ray itself is started in tests/trials/executors and tests/faults."""

from __future__ import annotations

import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from velodrome.errors import UsageError, VeloError
from velodrome.trials import ray_cluster
from velodrome.trials.ray_cluster import check_address, make_token, token_path


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "secret" / "token"
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_for_its_owner_alone(token: Path) -> None:
    make_token()
    text = token.read_text()
    assert mode(token) == 0o600
    assert len(bytes.fromhex(text)) == 32
    make_token()
    assert token.read_text() == text
    assert [p.name for p in token.parent.iterdir()] == ["token"]


def test_many_that_make_one_at_once_agree(token: Path) -> None:
    threads = [threading.Thread(target=make_token) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(token.read_text()) == 64
    assert [p.name for p in token.parent.iterdir()] == ["token"]


def test_a_token_that_others_could_read_is_closed_to_them(token: Path) -> None:
    token.parent.mkdir()
    token.write_text("0" * 64)
    token.chmod(0o644)
    make_token()
    assert mode(token) == 0o600
    assert token.read_text() == "0" * 64


def test_a_token_in_the_environment_is_enough(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    make_token()
    assert not token.exists()


def test_the_usual_place_is_rays_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_path() == tmp_path / ".ray" / "auth_token"


def test_no_place_for_a_token_is_a_plain_error(token: Path) -> None:
    token.parent.write_text("in the way")
    with pytest.raises(VeloError, match="set RAY_AUTH_TOKEN_PATH"):
        make_token()


@pytest.mark.parametrize("address", ["ray", "host", "host:", ":6379", "host:x", "host:0", "host:99999", "ray://h:1001"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"HOST:PORT"):
        check_address(address)


def test_nobody_at_the_address_is_said_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started_at = time.monotonic()
    with pytest.raises(VeloError, match="Nobody answers") as caught:
        ray_cluster.RayCluster(address)
    assert caught.value.given == address
    assert "ray start --head" in caught.value.hint
    assert time.monotonic() - started_at < 10
