"""The launcher: a small process of its own that imports what is slow once, and forks workers on request.

It has one thread, so a fork is always safe; it holds nothing of the user's process; it reaps what it forked and tells
exact exit statuses; and when its controller is gone, it kills every worker's process group and ends.
``docs/decisions/launcher.md`` says why this is not multiprocessing's fork server.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from selectors import EVENT_READ, DefaultSelector

from velodrome.resources.slots import Slot
from velodrome.trials import wire
from velodrome.trials.data_room import DataRoom
from velodrome.trials.executor import StudyContext
from velodrome.trials.objective import PackedObjective
from velodrome.trials.wire import Wire
from velodrome.trials.worker import run_worker

_TICK_S = 1.0
"""How often to look whether the controller is still the parent (a child of its own may hold its socket open)."""
_FDS_PER_SPAWN = 3
_PR_SET_PDEATHSIG = 1


class Launcher:
    """Forks, reaps and kills workers for the controller at the other end of ``sock``."""

    def __init__(self, sock: socket.socket) -> None:
        self._wire = Wire(sock)
        self._fds: list[int] = []
        self._pids: dict[int, int] = {}
        """Key of a worker to its process id, while it has not been reaped."""
        self._source: PackedObjective | None = None
        self._room = DataRoom.new()
        self._parent = os.getppid()
        self._pid = os.getpid()
        self._wake_read, self._wake_write = os.pipe()
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def run(self) -> None:
        """Serves until the controller is gone; never returns normally in a forked worker."""
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        selector = DefaultSelector()
        selector.register(self._wire.fileno(), EVENT_READ)
        selector.register(self._wake_read, EVENT_READ)
        while os.getppid() == self._parent:
            ready = {key.fd for key, _ in selector.select(_TICK_S)}
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._wire.fileno() in ready and not self._serve(selector):
                break
        for pid in self._pids.values():
            _kill_group(pid)
        for pid in self._pids.values():
            os.waitpid(pid, 0)

    def _serve(self, selector: DefaultSelector) -> bool:
        """Carries out what the controller sent; False once it is gone."""
        try:
            chunk, fds, _, _ = socket.recv_fds(self._wire.sock, 1 << 18, _FDS_PER_SPAWN)
        except ConnectionError:
            return False
        self._fds += fds
        for message in self._wire.feed(chunk):
            match message:
                case (wire.SOURCE, source):
                    self._source = source
                    _preload(source)
                case (wire.SPAWN, key, slot, context):
                    fds, self._fds = self._fds[:_FDS_PER_SPAWN], self._fds[_FDS_PER_SPAWN:]
                    self._spawn(key, slot, context, fds, selector)
                case (wire.KILL, key) if key in self._pids:
                    _kill_group(self._pids[key])
                case (wire.TERMINATE, key) if key in self._pids:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(self._pids[key], signal.SIGTERM)
        return bool(chunk)

    def _spawn(
        self, key: int, slot: Slot, context: StudyContext | None, fds: list[int], selector: DefaultSelector
    ) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                selector.close()
                self._become_worker(slot, context, fds)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)
        for fd in fds:
            os.close(fd)
        self._pids[key] = pid
        self._tell(wire.STARTED, key, pid)

    def _become_worker(self, slot: Slot, context: StudyContext | None, fds: list[int]) -> None:
        """In the forked child: leaves everything of the launcher behind, and runs trials."""
        assert self._source is not None
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(signum, signal.SIG_DFL)
        os.setsid()
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(1)
        self._wire.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        jobs, control = (Wire(socket.socket(fileno=fd)) for fd in fds[:2])
        with open(fds[2], "wb", buffering=0) as fault_file:  # noqa: PTH123 - from a file descriptor
            run_worker(self._source, slot, context, jobs, control, fault_file, self._room)

    def _reap(self) -> None:
        """Tells of every worker that died, once what it left behind in its group is dead too."""
        for key, pid in list(self._pids.items()):
            reaped, status = os.waitpid(pid, os.WNOHANG)
            if not reaped:
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            del self._pids[key]
            self._tell(wire.EXITED, key, os.waitstatus_to_exitcode(status))

    def _tell(self, *message: object) -> None:
        with contextlib.suppress(OSError):  # a controller that is gone shows at the next read
            self._wire.send([message])


def _preload(source: PackedObjective) -> None:
    """Imports what the objective's file will import; an import that fails will fail again there, and be told."""
    for name in source.preloads:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # workers share these pages as long as nobody writes to them


def _kill_group(pid: int) -> None:
    """Kills a worker that has not been reaped, with its group; it may not have made the group yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)


def main() -> None:
    """``python -m velodrome.trials.launcher FD``: serves the socket of that number."""
    Launcher(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
