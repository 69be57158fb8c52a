"""What SQLite's errors mean for the user of a store, and what to do about each."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from velodrome.errors import StoreError, StoreFullError

_ALMOST_NOTHING_BYTES = 1 << 20


def store_error(error: sqlite3.Error, path: Path, doing: str) -> StoreError:
    """The error to raise in place of SQLite's.

    Args:
        error: What SQLite raised.
        path: The store's file.
        doing: What was being done: ``"writing"``, ``"opening"``, ``"reading"``.

    Returns:
        A ``StoreFullError`` where room ran out, else a ``StoreError``; its hint depends on the kind of error.
    """
    name = getattr(error, "sqlite_errorname", "")
    given = f"{path} ({error})"
    if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and _disk_is_full(path)):
        return StoreFullError(
            f"The store ran out of room while {doing}", given=given,
            hint="free disk space, or raise VELODROME_STORE_MAX_BYTES where it is set; what was stored is safe and "
                 "the study can be resumed",
        )
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return StoreError(
            f"The store's file is damaged, or is no SQLite database; found out while {doing}", given=given,
            allowed="a store that velodrome made",
            hint=f"restore a copy, or save what can be read: sqlite3 '{path}' .recover | sqlite3 rescued.db; "
                 "or name another file with --store",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(
            f"The store stayed locked by another program while {doing}", given=given,
            hint="end the program that holds it (an SQLite shell or browser with an open transaction) and try again",
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return StoreError(
            f"The store can't be opened while {doing}", given=given,
            allowed="a file in a folder where you may make files (SQLite keeps two more beside it)",
            hint="check the permissions of the file and of its folder, or name another file with --store",
        )
    if isinstance(error, sqlite3.IntegrityError):
        return StoreError(
            "A row was to be stored a second time: two processes may be running one study", given=given,
            hint="see `velo ls`; stop one of them and resume the study",
        )
    return StoreError(f"The store failed while {doing}", given=given, hint="see `velo doctor`")


def os_error(error: OSError, path: Path, doing: str) -> StoreError:
    """The error for a folder or a lock file that the system refused."""
    return StoreError(
        f"The store can't be opened while {doing}", given=f"{path} ({error.strerror or error})",
        allowed="a file in a folder where you may make files",
        hint="check the path and its permissions, or name another file with --store",
    )


def _disk_is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _ALMOST_NOTHING_BYTES
    except OSError:
        return False
