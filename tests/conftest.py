"""Every test has a ledger of its own: studies of tests wait for nobody, and nobody for them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_ledger(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = tmp_path_factory.mktemp("ledger")
    monkeypatch.setenv("VELODROME_LEDGER", str(folder / "ledger.db"))
