"""Every error that velodrome raises for a mistake of its user, and the exit code of each.

An error says what happened, what was given, what is allowed and what to do. The command line prints it without a
traceback. Errors of the user's own code are not among them: those are failures of a trial (``types.Failure``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VeloError(Exception):
    """The base of all.

    Args:
        what: What happened, a sentence without its full stop.
        given: What the user gave.
        allowed: What would have been right.
        hint: What to do now.
    """

    exit_code = 1

    def __init__(self, what: str, *, given: str = "", allowed: str = "", hint: str = "") -> None:
        self.what, self.given, self.allowed, self.hint = what, given, allowed, hint
        lines = [what.rstrip(".") + "."]
        details = (("given", given), ("allowed", allowed), ("try", hint))
        lines += [f"  {label}: {text}" for label, text in details if text]
        super().__init__("\n".join(lines))


class UsageError(VeloError):
    """A wrong option, name or argument."""

    exit_code = 2


class SpaceError(UsageError):
    """A search space, or a value for one, that makes no sense."""


class ObjectiveError(UsageError):
    """An objective that can't be found or loaded. Carries the user's own traceback where their code raised."""

    def __init__(self, what: str, *, given: str = "", allowed: str = "", hint: str = "", traceback: str = "") -> None:
        super().__init__(what, given=given, allowed=allowed, hint=hint)
        self.traceback = traceback


class StoreError(VeloError):
    """The results store can't be opened, read or written."""

    exit_code = 3


class StoreFullError(StoreError):
    """No room is left for the store; what was acknowledged is safe."""


class LedgerError(VeloError):
    """The ledger of who uses what of the machine can't be opened, read or written."""

    exit_code = 3


class NotFoundError(VeloError):
    """No study or trial of that name or number."""

    exit_code = 4


class StudyExistsError(UsageError):
    """A study of that name is there already."""


class StudyBusyError(VeloError):
    """Another process is running that study."""

    exit_code = 5


class StudyFailedError(VeloError):
    """The study stopped because its first trials all failed in the same way. Carries the first one's traceback."""

    exit_code = 6

    def __init__(self, what: str, *, given: str = "", allowed: str = "", hint: str = "", traceback: str = "") -> None:
        super().__init__(what, given=given, allowed=allowed, hint=hint)
        self.traceback = traceback


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a study in order; everything is saved. The exit code is 128 + ``signum``."""

    def __init__(self, signum: int, study: str) -> None:
        super().__init__(f"study {study!r} was interrupted; go on with: velo resume {study}")
        self.signum, self.study = signum, study


class Pruned(Exception):  # noqa: N818 - it is a verdict, not an error
    """Raised by an objective, or by ``trial.report``, to end a trial that is not worth going on with."""


class Preempted(BaseException):
    """Raised by ``trial.checkpoint`` or ``trial.report`` in a trial that is to give its place to another.

    Not an ``Exception``, so that an objective that catches those does not hold it up. The trial goes on later from its
    last checkpoint.
    """


class Diverged(Exception):  # noqa: N818 - it is a verdict, not an error
    """Raised by an objective whose training has left the finite numbers; the message names the first bad tensor."""


def nearest(name: str, options: Iterable[str]) -> str:
    """``"Did you mean 'x'?"`` for the option nearest to ``name``, or ``""`` where none is near."""
    near = difflib.get_close_matches(name, list(options), n=1)
    return f"Did you mean {near[0]!r}?" if near else ""
