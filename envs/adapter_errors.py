"""Errors of environments: one that can't be found or built, one that breaks its contract, one whose process is gone."""

from __future__ import annotations

import importlib.util
import re
import traceback as tracebacks
from collections.abc import Iterable
from pathlib import Path

from velodrome.errors import UsageError, VeloError, nearest

EXTRAS = {
    "ale_py": "atari", "mujoco": "mujoco", "Box2D": "box2d", "box2d": "box2d", "pygame": "box2d",
    "imageio_ffmpeg": "video", "PIL": "video", "imageio": "mujoco",
}
"""Which of velodrome's extras brings a module that an environment may miss."""


class EnvError(UsageError):
    """An environment that can't be built, or that breaks Gymnasium's contract.

    Where the user's own code raised, ``traceback`` is its traceback, and ``place`` its last line: ``"file.py:12"``.
    """

    def __init__(
        self, what: str, *, given: str = "", allowed: str = "", hint: str = "", traceback: str = "", place: str = "",
    ) -> None:
        super().__init__(what, given=given, allowed=allowed, hint=hint)
        self.traceback, self.place = traceback, place


class EnvLostError(VeloError):
    """Environment processes died or hung again and again, so that replacing them makes no sense."""


def user_traceback(error: BaseException) -> tuple[str, str]:
    """The traceback of an error in the user's code without our own frames, and its last line in that code.

    Returns:
        The traceback as text, and ``"file.py:12"``: the last frame that is neither velodrome's nor of an installed
        package, else simply the last one.
    """
    frames = list(tracebacks.extract_tb(error.__traceback__))
    ours = Path(__file__).resolve().parent
    theirs = [frame for frame in frames if Path(frame.filename).resolve().parent != ours]
    own = [frame for frame in theirs if "site-packages" not in frame.filename] or theirs or frames
    lines = ["Traceback (most recent call last):\n"] if theirs else []
    lines += tracebacks.format_list(theirs)
    lines += tracebacks.format_exception_only(error)
    return "".join(lines), f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def raised(doing: str, error: BaseException, *, given: str = "") -> EnvError:
    """The ``EnvError`` for an exception that the environment's own code raised while ``doing`` something."""
    text, place = user_traceback(error)
    kind = f"{type(error).__name__}: {error}"
    return EnvError(
        f"The environment raised {kind} in {doing}", given=given,
        hint=f"see {place}" if place else "", traceback=text, place=place,
    )


def missing_module(name: str, error: BaseException) -> EnvError | None:
    """The error for an environment whose library is not installed; None if ``error`` is about something else."""
    module = getattr(error, "name", None) if isinstance(error, ImportError) else None
    found = re.search(r"gymnasium\[([\w-]+)\]", str(error))
    extra = EXTRAS.get((module or "").split(".")[0], found[1] if found and found[1] in EXTRAS.values() else "")
    if not extra and found is None:
        return None
    command = f"pip install 'velodrome[{extra}]'" if extra else f"pip install '{found[0]}'" if found else ""
    return EnvError(f"A library that {name} needs is not installed", given=str(error), hint=command)


def unknown_env(env_id: str, known: Iterable[str]) -> EnvError:
    """The error for an id that nobody registered, with the nearest names, and what the likely package is."""
    names = sorted(known)
    if env_id.startswith("ALE/") and importlib.util.find_spec("ale_py") is None:
        return EnvError(
            "Atari is not installed", given=env_id, hint="pip install 'velodrome[atari]'",
        )
    base = env_id.rsplit("-v", 1)[0].lower()
    near = [name for name in names if name.rsplit("-v", 1)[0].lower() == base]
    guess = f"Did you mean {near[-1]!r}?" if near else nearest(env_id, names) or _without_case(env_id, names)
    return EnvError(
        "There is no such environment", given=repr(env_id),
        allowed=f"{len(names)} registered ids, 'module:Name-v0', or a class or function that makes an environment",
        hint=guess or "import the package that registers it: 'package:Name-v0'",
    )


def _without_case(env_id: str, names: list[str]) -> str:
    by_lower = {name.split("/")[-1].rsplit("-v", 1)[0].lower(): name for name in names}
    guess = nearest(env_id.split("/")[-1].rsplit("-v", 1)[0].lower(), by_lower)
    return f"Did you mean {by_lower[guess.split(chr(39))[1]]!r}?" if guess else ""
