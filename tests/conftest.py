"""What holds for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("velodrome", deadline=None)  # the machine may be busy
settings.load_profile("velodrome")

# Where there are GPUs, too, tests are of the CPU; those of a GPU run by themselves: make test-gpu
if "VELODROME_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# Under nohup the processes that tests start would not hear the signal either.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _token_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test makes a token for Ray in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path_factory.getbasetemp() / "ray-token"))
        yield


@pytest.fixture(autouse=True)
def _own_ledger(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a ledger of its own: studies of tests wait for nobody, and nobody for them."""
    folder: Path = tmp_path_factory.mktemp("ledger")
    monkeypatch.setenv("VELODROME_LEDGER", str(folder / "ledger.db"))
