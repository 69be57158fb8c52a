"""Where things lie: the store that is meant, and the folders of a study's logs and checkpoints beside it."""

from __future__ import annotations

import os
from pathlib import Path


def store_path(store: str | os.PathLike[str] | None = None) -> Path:
    """The store that is meant: what was given, else ``$VELODROME_STORE``, else ``velodrome.db`` here; absolute."""
    return Path(store or os.environ.get("VELODROME_STORE") or "velodrome.db").expanduser().absolute()


def log_dir(store: Path, study: str) -> Path:
    """Where the output of a study's workers is kept: ``velodrome.logs/STUDY`` beside ``velodrome.db``."""
    return store.with_suffix(".logs") / study


def files_dir(store: Path, study: str) -> str:
    """Where a study's checkpoints are kept, relative to the store's folder: ``velodrome.files/STUDY``.

    No two stores in a folder share one, for what a store does not know there is deleted.
    """
    return f"{store.stem}.files/{study}" if store.suffix == ".db" else f"{store.name}-files/{study}"
