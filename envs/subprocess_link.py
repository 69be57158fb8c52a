"""The parent's end of one worker process: starts it, talks to it within time limits, and ends it."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from velodrome.envs.subprocess_protocol import CLOSE, ERROR, VALUE, Assignment, unpack_error

_LOST = (EOFError, ConnectionError, OSError)
_STDERR = 2
"""Where workers print: stdout is the data of whoever runs us."""
_END_S = 2.0
"""How long a worker may take to close its environments."""


class WorkerLostError(Exception):
    """The worker died or hung; the text goes on after "the process"."""


class WorkerLink:
    """One worker.

    Args:
        make_env: By cloudpickle.
        groups: The rows of each group that are its own.
        num_envs: N of the whole batch.
        info_keys: Numbers in the infos to keep.
        memory_fd: The file that holds the buffers.

    Attributes:
        rows: All its rows.
        pending: Groups whose step it has not answered, in the order they were sent.
        num_steps: Steps that its process has answered.
    """

    def __init__(
        self, make_env: bytes, groups: tuple[tuple[int, ...], ...], num_envs: int, info_keys: tuple[str, ...],
        memory_fd: int,
    ) -> None:
        self.rows = tuple(row for group in groups for row in group)
        self.pending: deque[int] = deque()
        self._assignment = Assignment(list(sys.path), make_env, groups, info_keys, num_envs)
        self._memory_fd = memory_fd
        self._process: subprocess.Popen[bytes] | None = None
        self.num_steps = 0
        self._asked_at = 0.0

    @property
    def pid(self) -> int:
        """The process id; 0 where there is no process."""
        return self._process.pid if self._process else 0

    def start(self, *, lost: bool) -> None:
        """Starts the process; its first answer (``take``) is the ``BatchSpec``."""
        self.num_steps = 0
        ours, theirs = socket.socketpair()
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **os.environ}
        command = [sys.executable, "-m", "velodrome.envs.subprocess_worker", str(theirs.fileno()), str(self._memory_fd),
                   str(int(lost))]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(), self._memory_fd), stdin=subprocess.DEVNULL, stdout=_STDERR,
                env=environment,
            )
        self._link: Connection[Any, Any] = Connection(ours.detach())
        self._poll = select.poll()
        self._poll.register(self._link.fileno(), select.POLLIN)
        self.post(pickle.dumps(self._assignment))

    def post(self, message: bytes) -> None:
        """Sends a command that is not a step; whether anybody was there shows in ``take``."""
        with suppress(*_LOST):
            self._link.send_bytes(message)
        self._asked_at = time.monotonic()

    def post_step(self, message: bytes, group: int) -> None:
        """Sends the command to step its share of a group."""
        if not self.pending:
            self._asked_at = time.monotonic()
        self.pending.append(group)
        with suppress(*_LOST):
            self._link.send_bytes(message)

    def take_step(self, timeout_s: float) -> None:
        """Waits for the answer to the oldest step.

        Raises:
            EnvError: That the environment raised.
            WorkerLostError: If the process died, or does not answer.
        """
        self._receive(timeout_s, "a step")
        self.pending.popleft()
        self.num_steps += 1
        self._asked_at = time.monotonic()

    def take(self, timeout_s: float) -> Any:
        """Waits for the answer to another command; its value, where it has one.

        Raises:
            EnvError: That the environment raised.
            WorkerLostError: If the process died, or does not answer.
        """
        return self._receive(timeout_s, "its start or a reset")

    def kill(self) -> None:
        """Ends the process at once."""
        if self._process is not None:
            with suppress(OSError):
                self._process.kill()
            self._process.wait()
            self._link.close()
            self._process = None

    def ask_to_close(self) -> None:
        """Asks the process to close its environments and end; what it still owes is not waited for."""
        if self._process is not None:
            self.post(CLOSE)

    def end(self) -> None:
        """Waits a moment for the process to end, and kills it where it does not."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            self.kill()

    def _receive(self, timeout_s: float, doing: str) -> Any:
        left_s = self._asked_at + timeout_s - time.monotonic()
        if not self._poll.poll(max(left_s, 0.0) * 1000):
            raise WorkerLostError(f"did not answer for {timeout_s:g} s in {doing}")
        try:
            answer = self._link.recv_bytes()
        except _LOST:
            raise WorkerLostError(f"died in {doing} ({self._how_it_ended()})") from None
        if answer[:1] == ERROR:
            self.pending.clear()
            raise unpack_error(answer[1:])
        return pickle.loads(answer[1:]) if answer[:1] == VALUE else None

    def _how_it_ended(self) -> str:
        if self._process is None:
            return "no process"
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "its link is closed"
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
