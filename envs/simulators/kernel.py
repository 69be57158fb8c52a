"""``@kernel``: a function compiled by numba, its machine code kept on disk between processes.

What every kernel of this folder relies on:

- The GIL is released, so kernels on different rows can run in several threads.
- No ``fastmath`` and no contraction: the same IEEE operations in the same order whether the compiler handles one row
  at a time or eight, so a result does not depend on the number of rows, on how they are split, or on the processor.
- Divisions by zero give infinity or NaN as in NumPy; there is no check in the loop that would keep it from being
  vectorised. For the same reason a loop runs over ``range(n)`` on slices, not from ``lo`` to ``hi`` on whole arrays;
  and a kernel that is called by another is inlined.

The code is kept where numba keeps it: in ``__pycache__`` beside the source if that can be written, otherwise in the
user's cache folder (``NUMBA_CACHE_DIR`` chooses another); where neither can be written each process compiles anew.
Two things are done differently from ``njit(cache=True)``, which is unsafe in both:

- The code is valid for the sources of *all* kernels. numba looks only at the file of the function itself, so it
  would go on with old machine code after a function in another file, which is inlined in it, was changed or upgraded.
- A lock covers index and data, so processes that compile at the same time never read a half-written pair.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compiles ``function`` when it is first called, or loads what an earlier process compiled."""
    dispatcher: Any = njit(nogil=True, fastmath=False, error_model="numpy", forceinline=True)(function)
    with contextlib.suppress(RuntimeError):  # there is no folder that can be written: compile in every process
        dispatcher._cache = _KernelCache(function)
    return cast(F, dispatcher)


class _KernelCache(FunctionCache):
    """numba's cache of one function, valid for ``_sources()``, with a lock."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        base = self._impl.filename_base
        self._cache_file = IndexDataCacheFile(self._cache_path, filename_base=base, source_stamp=_sources())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with contextlib.suppress(OSError), self._lock():
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError), self._lock():
            super().save_overload(sig, data)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        folder = Path(self._cache_path)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{self._impl.filename_base}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # closing the file gives it back
            yield


@cache
def _sources() -> str:
    """A digest of every source file of this folder."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
