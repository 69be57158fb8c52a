"""A worker process: makes its environments, then steps them on command until the batch that began it is gone.

Run as ``python -m velodrome.envs.subprocess_worker LINK_FD MEMORY_FD LOST``. It imports nothing of the user's script,
so a script needs no ``if __name__ == "__main__"``. With ``LOST`` 1 it stands in for a worker that died: the first step
of each group then reports that group's episodes as lost.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from velodrome.envs.adapter_buffers import Buffers
from velodrome.envs.adapter_errors import EnvError, raised
from velodrome.envs.adapter_rows import EnvRows
from velodrome.envs.subprocess_protocol import (
    ATTACH,
    CLOSE,
    DONE,
    LOAD,
    RESET,
    SAVE,
    STEP,
    VALUE,
    Assignment,
    map_shared,
    pack_error,
)


class Worker:
    """Answers commands over its rows."""

    def __init__(self, assignment: Assignment, memory_fd: int, *, lost: bool) -> None:
        rows = [row for group in assignment.groups for row in group]
        self._groups = assignment.groups
        self._rows = EnvRows(pickle.loads(assignment.make_env), rows)
        self.spec = self._rows.spec(assignment.num_envs, assignment.info_keys)
        self._memory_fd = memory_fd
        self._to_report = {number for number, group in enumerate(assignment.groups) if group} if lost else set()

    def answer(self, message: bytes) -> bytes:
        """Carries out one command.

        Raises:
            EnvError: Of the environment's own making.
        """
        command, payload = message[:1], message[1:]
        if command == STEP:
            self._step(payload[0])
            return DONE + payload
        if command == SAVE:
            return VALUE + pickle.dumps(self._rows.save())
        if command == CLOSE:
            self._rows.close()
            return DONE
        given = pickle.loads(payload)
        if command == ATTACH:
            memory = map_shared(self._memory_fd, given.num_bytes)
            self._rows.attach(given, Buffers.allocate(given, memory))
        elif command == RESET:
            self._rows.reset(given)
        elif command == LOAD:
            self._rows.load(given)
        return DONE

    def _step(self, group: int) -> None:
        if group in self._to_report:
            self._to_report.discard(group)
            self._rows.lose(self._groups[group])
        else:
            self._rows.step(self._groups[group])


def serve(link: Connection[Any, Any], memory_fd: int, *, lost: bool) -> None:
    """Answers until told to close, or until nobody is there to answer to."""
    assignment: Assignment = pickle.loads(link.recv_bytes())
    sys.path[:] = assignment.path
    try:
        worker = Worker(assignment, memory_fd, lost=lost)
    except EnvError as error:
        link.send_bytes(pack_error(error))
        return
    link.send_bytes(VALUE + pickle.dumps(worker.spec))
    message = b""
    while message[:1] != CLOSE:
        message = link.recv_bytes()
        try:
            answer = worker.answer(message)
        except EnvError as error:
            answer = pack_error(error)
        except Exception as error:
            answer = pack_error(raised("a worker", error))
        link.send_bytes(answer)


def main() -> None:
    """The process."""
    link_fd, memory_fd, lost = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it closes its workers
    threading.Thread(target=_die_with_parent, args=(link_fd,), daemon=True).start()
    try:
        serve(Connection(link_fd), memory_fd, lost=bool(lost))
    except (EOFError, ConnectionError):
        os._exit(0)


def _die_with_parent(link_fd: int) -> None:
    """Ends the process when the other end of the link closes, also in the middle of an environment's step."""
    poll = select.poll()
    poll.register(link_fd, 0)  # a hang-up is always reported
    poll.poll()
    os._exit(0)


if __name__ == "__main__":
    main()
