"""Bytes that only this user's velodrome can have written: sealed with a secret key, checked before they are believed.

An environment's state is pickled, for only pickle can keep what any class holds, and unpickling what somebody else
wrote runs their code. So it is sealed, and what was not sealed with this user's key is never unpickled. The key lies in
``$XDG_STATE_HOME/velodrome/key`` (``~/.local/state`` by default), readable by its owner alone.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from functools import cache
from pathlib import Path

from velodrome.errors import VeloError

_KEY_BYTES = 32
_SEAL_BYTES = hashlib.sha256().digest_size


def seal(data: bytes) -> bytes:
    """The data behind its seal.

    Raises:
        VeloError: If there is no place to keep a key.
    """
    return hmac.digest(_key(), data, hashlib.sha256) + data


def unseal(sealed: bytes) -> bytes | None:
    """The data, if this user's key sealed it and nothing was changed since; else None."""
    given, data = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    try:
        expected = hmac.digest(_key(), data, hashlib.sha256)
    except VeloError:
        return None
    return data if hmac.compare_digest(given, expected) else None


def key_path() -> Path:
    """Where the key is, or will be."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "velodrome" / "key"


def _key() -> bytes:
    return _read_or_make(key_path())


@cache
def _read_or_make(path: Path) -> bytes:
    """The key; made where there is none. Of several processes that make one at once, the first one's counts."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = path.with_name(f"key.{os.getpid()}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        facts, key = path.stat(), path.read_bytes()
    except (OSError, RuntimeError) as error:
        raise VeloError("There is no place to keep the key that seals environments' states", given=str(error),
                        allowed="a folder that can be written to", hint="set XDG_STATE_HOME") from error
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise VeloError("The key that seals environments' states may be known to others", given=str(path),
                        allowed="a file of this user that nobody else can read", hint="delete it: a new one is made")
    if len(key) != _KEY_BYTES:
        raise VeloError("The key that seals environments' states is damaged", given=f"{path}, {len(key)} bytes",
                        allowed=f"{_KEY_BYTES} bytes", hint="delete it: a new one is made")
    return key
