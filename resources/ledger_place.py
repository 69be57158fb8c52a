"""Where the ledger lies: what the environment or a configuration file says, else a file of the user's own."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from velodrome.errors import LedgerError, UsageError
from velodrome.store.filesystem import OVERRIDE, remote_kind

VARIABLE = "VELODROME_LEDGER"
OFF = "off"
_SYSTEM_CONFIG = Path("/etc/velodrome.toml")


@dataclass(frozen=True, slots=True)
class Place:
    """A ledger's file.

    Attributes:
        path: Where it is.
        is_shared: Whether several users are to write to it: its group may then.
        named_by: What named it, for a person to read.
    """

    path: Path
    is_shared: bool
    named_by: str

    @property
    def settings(self) -> Path:
        """The file with the settings for sharing, beside it."""
        return self.path.with_suffix(".toml")


def find(environ: Mapping[str, str] | None = None, system: Path = _SYSTEM_CONFIG) -> Place | None:
    """The ledger that is meant; None where sharing is switched off.

    ``VELODROME_LEDGER`` counts first (``off`` for none), then ``ledger = "PATH"`` in the user's
    ``~/.config/velodrome/config.toml``, then in ``/etc/velodrome.toml``, else it is
    ``~/.local/state/velodrome/ledger.db``, or a file on a local disk where the home folder is on none.

    Raises:
        UsageError: If a configuration file is not understood.
        LedgerError: If the named file would lie on a network file system.
    """
    environ = os.environ if environ is None else environ
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "velodrome/config.toml"
    named = [(environ.get(VARIABLE, ""), VARIABLE)]
    named += [(_configured(path), str(path)) for path in (user, system)] if not named[0][0] else []
    for text, by in named:
        if text.lower() == OFF:
            return None
        if text:
            return _check_local(Place(Path(text).expanduser().absolute(), True, by))
    own = Path(environ.get("XDG_STATE_HOME") or home / ".local/state") / "velodrome"
    runtime = environ.get("XDG_RUNTIME_DIR")
    folders = [own, *([Path(runtime) / "velodrome"] if runtime else []), Path(f"/var/tmp/velodrome-{os.getuid()}")]
    folder = next((folder for folder in folders if not _remote(folder)), folders[-1])
    return _check_local(Place(folder / "ledger.db", False, "default"))


def _configured(path: Path) -> str:
    """The ledger that a configuration file names, or ``""``."""
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
    try:
        ledger = tomllib.loads(text).get("ledger", "")
    except tomllib.TOMLDecodeError as error:
        raise UsageError("A configuration file is no TOML", given=f"{path}: {error}") from None
    if not isinstance(ledger, str):
        raise UsageError(
            "A configuration file names no path for the ledger", given=f"{path}: ledger = {ledger!r}",
            allowed='ledger = "/srv/velodrome/ledger.db", or "off"',
        )
    return ledger


def _check_local(place: Place) -> Place:
    if kind := _remote(place.path):
        raise LedgerError(
            "The ledger would lie on a network file system, where SQLite's locks can't be trusted",
            given=f"{place.path} (on {kind}; named by {place.named_by})", allowed="a local disk",
            hint=f"name a file on a local disk with {VARIABLE}, or switch sharing off: {VARIABLE}={OFF}",
        )
    return place


def _remote(path: Path) -> str:
    return "" if os.environ.get(OVERRIDE) == "1" else remote_kind(path)
