"""From an exception to a ``Failure``: its class, the line of the user's code, and a traceback without our frames."""

from __future__ import annotations

import importlib
import linecache
import site
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

import velodrome
from velodrome.errors import Diverged
from velodrome.trials.declaration import Objective, place_of
from velodrome.types import Failure, FailureClass

MAX_TRACEBACK_CHARS = 20_000
MAX_MESSAGE_CHARS = 500

_OURS = str(Path(velodrome.__file__).parent) + "/"
_LIBRARIES = tuple({
    *(f"{p}/" for p in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))),
    *(f"{p}/" for p in site.getsitepackages()),
})
_OOM_TEXTS = (
    "cuda out of memory", "cuda error: out of memory", "defaultcpuallocator: can't allocate memory",
    "defaultcpuallocator: not enough memory", "std::bad_alloc", "cublas_status_alloc_failed", "hip out of memory",
)


def of_exception(error: BaseException, function: Objective | None) -> Failure:
    """The failure of a trial whose objective raised ``error``; ``function`` places it where no frame does."""
    kind = FailureClass.OOM if is_oom(error) else FailureClass.USER
    if isinstance(error, Diverged):
        kind = FailureClass.DIVERGED
    if kind is FailureClass.OOM:
        traceback.clear_frames(error.__traceback__)  # what filled the memory hangs on the frames
    frames = traceback.extract_tb(error.__traceback__)
    file, line, code = locate((frame.filename, frame.lineno or 0) for frame in reversed(frames))
    if isinstance(error, SyntaxError) and error.filename and not file:
        file, line, code = error.filename, error.lineno or 0, (error.text or "").strip()
    if not file and function is not None:
        file, line, code = place_of(function)
    return Failure(kind, _message(error), _qualified(type(error)), file, line, code, user_traceback(error))


def is_oom(error: BaseException) -> bool:
    """Whether the exception means that memory, of the host or of a device, ran out. Imports no library to find out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in _text(error).lower() for text in _OOM_TEXTS)


def locate(frames: Iterable[tuple[str, int]]) -> tuple[str, int, str]:
    """File, line and text of the user's code among ``(file, line)`` frames, innermost first; empty if none is.

    Code outside of velodrome, the standard library and installed packages is the user's. Where there is none, an
    installed package may be the user's own.
    """
    foreign = [(file, line) for file, line in frames if not is_ours(file)]
    own = [(file, line) for file, line in foreign if not file.startswith(_LIBRARIES) and "-packages/" not in file]
    if not own:
        own = [(file, line) for file, line in foreign if "-packages/" in file]
    if not own:
        return "", 0, ""
    file, line = own[0]
    return file, line, linecache.getline(file, line).strip()


def is_ours(file: str) -> bool:
    """Whether a frame of that file is none of the user's business: velodrome's own, or the import system's."""
    return file.startswith((_OURS, "<frozen ")) or file == importlib.__file__


def user_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without velodrome's frames, with the causes' tracebacks treated alike."""
    summary = traceback.TracebackException.from_exception(error)
    _cut(summary)
    text = "".join(summary.format())
    if len(text) > MAX_TRACEBACK_CHARS:
        half = MAX_TRACEBACK_CHARS // 2
        text = f"{text[:half]}\n  ... {len(text) - 2 * half} characters cut ...\n{text[-half:]}"
    return text


def _cut(summary: traceback.TracebackException) -> None:
    summary.stack = traceback.StackSummary.from_list([f for f in summary.stack if not is_ours(f.filename)])
    for other in (summary.__cause__, summary.__context__, *(getattr(summary, "exceptions", None) or ())):
        if other is not None:
            _cut(other)


def _message(error: BaseException) -> str:
    """One line that says what was raised."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({'' if error.code is None else repr(error.code)})"
    first = _text(error).strip().partition("\n")[0]
    message = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if type(error).__name__ == "BdbQuit":
        message += " (a debugger needs a terminal: use the inline executor)"
    return message[:MAX_MESSAGE_CHARS]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the user's own __str__
        return ""


def _qualified(cls: type[BaseException]) -> str:
    return cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"
