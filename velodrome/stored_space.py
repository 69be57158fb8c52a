"""A space as it is read from a store, which may be somebody else's: to read results must never run their code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from velodrome.search.space import Space


def space_of(store: Path, text: str) -> Space:
    """The space that a study's row has.

    A space names the files that registered its operators, and makes up for operators that are not there by running
    those files. Of another user's store no file is run: their operators have to be imported first.

    Raises:
        SpaceError: If it is no space, or an operator is not registered.
    """
    data = json.loads(text)
    return Space.from_json(data if store.stat().st_uid == os.geteuid() else _without_files(data))


def _without_files(data: Any) -> Any:
    match data:
        case Mapping():
            return {key: _without_files(value) for key, value in data.items() if key != "home" or "op" not in data}
        case list():
            return [_without_files(value) for value in data]
    return data
