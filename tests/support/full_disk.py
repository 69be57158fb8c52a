"""A disk that is full from SQLite's n-th write on: through SQLite's own hook for tests, so that all else is real.

``install(n)`` runs in the process that writes. It replaces the system call that SQLite writes with (``pwrite64``) by
one that counts, and from the n-th call on, for so many calls, fails as a full disk does.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
from typing import Any

_WRITE = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, use_errno=True
)
_SET = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_GET = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_FIELDS_BEFORE = 13
"""Pointers of ``sqlite3_vfs`` between its name and ``xSetSystemCall``."""


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("iVersion", ctypes.c_int), ("szOsFile", ctypes.c_int), ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p), ("zName", ctypes.c_char_p), ("pAppData", ctypes.c_void_p),
        ("others", ctypes.c_void_p * _FIELDS_BEFORE), ("xSetSystemCall", ctypes.c_void_p),
        ("xGetSystemCall", ctypes.c_void_p), ("xNextSystemCall", ctypes.c_void_p),
    )


_keep: list[Any] = []
"""What SQLite calls must not be collected."""


def install(first: int, count: int = 1 << 60) -> list[int]:
    """From the ``first`` write on (from 1), ``count`` of them fail; the list's only item counts all writes."""
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None)
    address = ctypes.cast(vfs, ctypes.c_void_p)
    assert vfs.contents.iVersion >= 3, "SQLite's test hook is missing"
    get, put = _GET(vfs.contents.xGetSystemCall), _SET(vfs.contents.xSetSystemCall)
    seen = [0]
    for name in (b"pwrite64", b"pwrite"):
        found = get(address, name)
        if not found:
            continue
        real = _WRITE(found)

        def write(fd: int, data: int, size: int, offset: int, real: Any = real) -> int:
            seen[0] += 1
            if first <= seen[0] < first + count:
                ctypes.set_errno(errno.ENOSPC)
                return -1
            done: int = real(fd, data, size, offset)
            return done

        fake = _WRITE(write)
        _keep.append((real, fake))
        assert put(address, name, ctypes.cast(fake, ctypes.c_void_p)) == 0
    return seen
