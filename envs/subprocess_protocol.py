"""What a batch and its worker processes say to each other: one byte for what it is, then the payload, pickled.

Observations, actions and rewards never pass here: they lie in shared memory (``adapter_buffers``).
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from dataclasses import dataclass

from velodrome.envs.adapter_errors import EnvError

ATTACH, RESET, STEP, SAVE, LOAD, CLOSE = b"A", b"R", b"S", b"G", b"P", b"Q"
"""Commands. A step's payload is the group's number in one byte; the others' is pickled."""

DONE, VALUE, ERROR = b"K", b"V", b"E"
"""Answers: done (of a step: with the group's byte), a pickled value, a pickled error."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is to do, its first message.

    Attributes:
        path: The parent's ``sys.path``, so that the same modules are found.
        make_env: ``Callable[[int], Env]``, by cloudpickle.
        groups: The rows of each group that are this worker's.
        info_keys: Numbers in the infos to keep.
        num_envs: N of the whole batch.
    """

    path: list[str]
    make_env: bytes
    groups: tuple[tuple[int, ...], ...]
    info_keys: tuple[str, ...]
    num_envs: int


def pack_error(error: EnvError) -> bytes:
    """An answer that carries an error."""
    parts = (error.what, error.given, error.allowed, error.hint, error.traceback, error.place)
    return ERROR + pickle.dumps(parts)


def unpack_error(payload: bytes) -> EnvError:
    """The error of such an answer, without its first byte."""
    what, given, allowed, hint, traceback, place = pickle.loads(payload)
    return EnvError(what, given=given, allowed=allowed, hint=hint, traceback=traceback, place=place)


def shared_file() -> int:
    """A file in memory without a name, to be mapped by several processes; it is gone with the last of them."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("velodrome-envs")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def map_shared(fd: int, num_bytes: int) -> mmap.mmap:
    """The file's memory."""
    return mmap.mmap(fd, max(num_bytes, 1))
