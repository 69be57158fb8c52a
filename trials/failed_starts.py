"""Workers that die before they can run a trial: now and then bad luck, three times in a row no accident."""

from __future__ import annotations

from velodrome.errors import ObjectiveError
from velodrome.trials import exits
from velodrome.trials.launcher_client import LauncherClient, launcher_failed
from velodrome.trials.worker_handle import WorkerHandle
from velodrome.types import Failure, FailureClass

_MOST = 3


class FailedStarts:
    """Counts starts that failed in a row, and raises where they would go on failing.

    Args:
        objective: Its name, for the error.
    """

    def __init__(self, objective: str) -> None:
        self._objective = objective
        self._count = 0

    def succeeded(self) -> None:
        """A worker is ready."""
        self._count = 0

    def launcher_died(self, launcher: LauncherClient) -> None:
        """The process that starts workers has ended.

        Raises:
            VeloError: If it is one too many.
        """
        self._count += 1
        if self._count >= _MOST:
            raise launcher_failed(launcher)

    def worker_died(self, worker: WorkerHandle, status: int, dump: str, tail: str) -> None:
        """A worker ended while it loaded the objective; arguments as of ``exits.of_exit``.

        Raises:
            ObjectiveError: If the objective's own code ended it, or it is one too many.
        """
        verdict = exits.of_exit(status, dump, tail, out_of_memory=False)
        self._count += 1
        if isinstance(verdict, str):
            if self._count < _MOST:
                return
            verdict = Failure(FailureClass.LOST, verdict)
        at = f"{verdict.file}:{verdict.line}  {verdict.code}" if verdict.line else self._objective
        raise ObjectiveError(
            f"The worker died while it loaded the objective: {verdict.message}", given=at, traceback=verdict.traceback,
            hint=f"{worker.slot.memory_bytes:,} bytes of memory may be too few" if worker.slot.memory_bytes
            else "import the file by itself to see why",
        )
