"""The controller's side of the launcher: starts the process, sends it requests, hears of its workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile

from velodrome.errors import VeloError
from velodrome.resources.slots import Slot
from velodrome.trials import wire
from velodrome.trials.executor import StudyContext
from velodrome.trials.objective import PackedObjective
from velodrome.trials.wire import Message, Wire, frame
from velodrome.trials.worker import thread_env

_CLOSE_PATIENCE_S = 5.0


class LauncherClient:
    """One launcher process, started at once.

    Args:
        source: What its workers will run.
        threads: How many threads the libraries that it imports may start.
    """

    def __init__(self, source: PackedObjective, threads: int) -> None:
        ours, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "velodrome.trials.launcher", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._stderr, cwd=source.cwd,
                env={**os.environ, **thread_env(threads)}, pass_fds=(theirs.fileno(),), start_new_session=True,
            )
        self.wire = Wire(ours)
        with contextlib.suppress(OSError):  # it is dead already: that shows at the next read
            self.wire.send([(wire.SOURCE, source)])

    @property
    def pid(self) -> int:
        """The launcher's process id."""
        return self._process.pid

    def spawn(self, key: int, slot: Slot, context: StudyContext | None, fds: list[int]) -> None:
        """Asks for a worker that will be known as ``key``; it gets the file descriptors."""
        with contextlib.suppress(OSError):
            socket.send_fds(self.wire.sock, [frame([(wire.SPAWN, key, slot, context)])], fds)

    def kill(self, key: int) -> None:
        """Asks for the worker's death, and that of its process group."""
        with contextlib.suppress(OSError):
            self.wire.send([(wire.KILL, key)])

    def terminate(self, key: int) -> None:
        """Asks for a SIGTERM to the worker's process group."""
        with contextlib.suppress(OSError):
            self.wire.send([(wire.TERMINATE, key)])

    def receive(self) -> list[Message]:
        """What the launcher told: STARTED and EXITED messages."""
        return self.wire.receive()

    def last_words(self) -> str:
        """The end of what the launcher wrote to its standard error."""
        self._stderr.seek(0)
        return self._stderr.read()[-4000:].decode(errors="replace").strip()

    def close(self) -> bool:
        """Ends the launcher, which kills every worker's group before it goes; whether it came to that."""
        self.wire.close()
        try:
            self._process.wait(_CLOSE_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()
        return self._process.returncode == 0


def kill_group(pid: int) -> None:
    """Kills what is left of a worker's process group, for a launcher that can't do it any more."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def launcher_failed(client: LauncherClient) -> VeloError:
    """The error for a launcher that dies again and again."""
    return VeloError(
        "The process that starts workers ended by itself, several times", given=client.last_words(),
        hint="try executor='inline', which needs none",
    )
