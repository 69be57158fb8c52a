"""One copy of a training job's data for all workers of a study on this machine, in memory that has no name.

The launcher makes the room, and the workers that it forks inherit it. The one that needs the data first asks the job
and fills the room, while others wait; all of them map it. Who changes a tensor in place changes pages of its own. The
memory is free again when the last process is gone, however it went.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from velodrome.trials.training_job import Data

_HEAD_BYTES = 16
"""Where the description is, and how long it is; written last. Zero as long as the room is empty."""
_ALIGNED = 64


class DataRoom:
    """Room for the data of one job.

    Args:
        fd: A file in memory, which is empty or was filled through another ``DataRoom``.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def new(cls) -> DataRoom | None:
        """An empty room; None where the system has none to give."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            return cls(os.memfd_create("velodrome-data"))
        except OSError:
            return None

    def data(self, ask: Callable[[], Data]) -> Data:
        """The data; ``ask`` is called by the first process that needs them, and where they can't be shared.

        Raises:
            BaseException: What ``ask`` raises; the next process asks again.
        """
        with self._locked():
            if self._description() is None:
                asked = ask()
                if not all(_is_plain(tensor) for tensor in (*asked.train, *asked.validation)):
                    return asked
                try:
                    self._fill(asked)
                except OSError:  # there is no memory for two copies
                    return asked
        return self._mapped()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """While it lasts, no other process does this; the lock of one that dies is free."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _description(self) -> dict[str, list[Any]] | None:
        """By part, the kind, shape and place of each tensor; None where the room is empty."""
        head = os.pread(self._fd, _HEAD_BYTES, 0)
        at, length = int.from_bytes(head[:8], "little"), int.from_bytes(head[8:], "little")
        found: dict[str, list[Any]] | None = json.loads(os.pread(self._fd, length, at)) if at else None
        return found

    def _fill(self, data: Data) -> None:
        import torch

        at = _ALIGNED
        description: dict[str, list[Any]] = {}
        for name in ("train", "validation"):
            description[name] = []
            for tensor in getattr(data, name):
                kind = str(tensor.dtype).removeprefix("torch.")
                description[name].append((kind, list(tensor.shape), at))
                _write(self._fd, memoryview(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()), at)
                at += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
        text = json.dumps(description).encode()
        _write(self._fd, memoryview(text), at)
        _write(self._fd, memoryview(at.to_bytes(8, "little") + len(text).to_bytes(8, "little")), 0)

    def _mapped(self) -> Data:
        """The tensors in the room."""
        import torch

        from velodrome.trials.training_job import Data

        pages = mmap.mmap(self._fd, 0, access=mmap.ACCESS_COPY)
        description = self._description()
        assert description is not None

        def tensor(kind: str, shape: list[int], at: int) -> Tensor:
            return torch.frombuffer(pages, dtype=getattr(torch, kind), count=prod(shape), offset=at).view(shape)

        return Data(*(tuple(tensor(*item) for item in description[name]) for name in ("train", "validation")))


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is numbers in a row, and there are some."""
    import torch

    if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.numel() > 0 and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())


def _write(fd: int, content: memoryview, at: int) -> None:
    while content:
        written = os.pwrite(fd, content, at)
        content, at = content[written:], at + written
