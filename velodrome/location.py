"""Where things lie: the store that is meant, and the folder of a study's logs beside it."""

from __future__ import annotations

import os
from pathlib import Path


def store_path(store: str | os.PathLike[str] | None = None) -> Path:
    """The store that is meant: what was given, else ``$VELODROME_STORE``, else ``velodrome.db`` here; absolute."""
    return Path(store or os.environ.get("VELODROME_STORE") or "velodrome.db").expanduser().absolute()


def log_dir(store: Path, study: str) -> Path:
    """Where the output of a study's workers is kept: ``velodrome.logs/STUDY`` beside ``velodrome.db``."""
    return store.with_suffix(".logs") / study
