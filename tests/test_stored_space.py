"""A space read from a store: nobody's code is run but this user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from velodrome import stored_space
from velodrome.errors import SpaceError
from velodrome.stored_space import space_of

HOME = """
from pathlib import Path
import velodrome as velo
from torch import nn

Path(__file__).with_name("ran").touch()

@velo.register_op("test_of_a_colleague")
def of_a_colleague(shape, *, width=3):
    return nn.Linear(shape[-1], width)
"""


def test_a_store_of_somebody_else_runs_no_file_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home.py").write_text(HOME)
    store = tmp_path / "velodrome.db"
    store.touch()
    block = {"part": "block", "op": "test_of_a_colleague", "settings": {}, "home": str(tmp_path / "home.py")}
    net = {"type": "net", "shape": [4], "part": "chain", "parts": [["0", block]]}
    text = json.dumps({"params": {"net": net}, "constraints": []})
    with monkeypatch.context() as patch:
        patch.setattr(stored_space.os, "geteuid", lambda: store.stat().st_uid + 1)
        with pytest.raises(SpaceError, match=r"is not registered(.|\n)*import the file with @velo.register_op"):
            space_of(store, text).graph({}).total()
        assert not (tmp_path / "ran").exists()
    assert space_of(store, text).graph({}).total().shape == (3,)
