"""Messages between the controller, the launcher and the workers: pickled lists of tuples over a stream socket.

A frame is a length (4 bytes, little endian) and a pickle of a list of messages; a message is a tuple whose first item
is one of the constants below. Many messages share a frame, because the cost of a frame is the system call, not the
pickle. Only processes that the controller started ever hold the other end, so unpickling is safe.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

Message = tuple[Any, ...]

# controller -> worker, on the job socket
OPEN = 0
"""(OPEN, StudyContext)"""
JOB = 1
"""(JOB, number, attempt, seed, params, checkpoints, origin, batch_divisor, apart)"""
ANSWER = 2
"""(ANSWER, value): to ASK_STOP, ASK_PAUSE, ASK_SAVE, ASK_VERDICTS or ASK_PARAM"""
REFUSAL = 3
"""(REFUSAL, what, given, allowed, hint): to ASK_PARAM; the fields of a SpaceError"""
PROBE = 4
"""(PROBE, configurations): to a worker that has no study yet: how many of these are best trained together?"""

# controller -> worker, on the control socket
STOP = 10
"""(STOP, number, reason)"""
PREEMPT = 11
"""(PREEMPT, number, reason, last_call_s): seconds from now after which a report ends the trial"""

# worker -> controller
READY = 20
"""(READY, ObjectiveInfo)"""
LOAD_ERROR = 21
"""(LOAD_ERROR, what, given, allowed, hint, traceback): the fields of an ObjectiveError"""
LOG_OPENED = 22
"""(LOG_OPENED, path, size_bytes)"""
REPORTED = 23
"""(REPORTED, number, step, metrics)"""
ATTR_SET = 24
"""(ATTR_SET, number, name, value)"""
OUTPUT = 25
"""(OUTPUT, number, attempt, start, end)"""
ASK_STOP = 26
"""(ASK_STOP, number)"""
ASK_PARAM = 27
"""(ASK_PARAM, number, name, domain)"""
DONE = 28
"""(DONE, number, kind, fields, duration_s, log_end): a Returned, Quit, Paused, Failed or Preempted event's fields"""
UNSTARTED = 29
"""(UNSTARTED, numbers): queued jobs handed back, because the one before them takes long"""
CHECKPOINTED = 30
"""(CHECKPOINTED, number, step, path, sha256, size_bytes)"""
RESTORED = 31
"""(RESTORED, number, step, skipped)"""
ASK_PAUSE = 32
"""(ASK_PAUSE, number)"""
NOTED = 33
"""(NOTED, number, by, action, reason)"""
ASK_SAVE = 35
"""(ASK_SAVE, number, at_end)"""
ASK_VERDICTS = 36
"""(ASK_VERDICTS, ((number, at_end), ...)): the answers to ASK_STOP and ASK_SAVE for several trials at once"""
BEGUN = 37
"""(BEGUN, numbers, log_start): these are trained together from now on, and the worker's death is theirs"""
BROKEN_UP = 38
"""(BROKEN_UP, numbers, size, reason): trials that failed together are handed back, to be trained ``size`` at a time"""
PROBED = 39
"""(PROBED, fusing.Choice)"""
GPU_PEAK = 34
"""(GPU_PEAK, peak_bytes): the most GPU memory that the worker has had, or that its trials are known to need"""

# controller -> launcher
SOURCE = 40
"""(SOURCE, PackedObjective)"""
SPAWN = 41
"""(SPAWN, key, Slot, StudyContext or None), in a frame of its own, with three file descriptors"""
KILL = 42
"""(KILL, key)"""
TERMINATE = 43
"""(TERMINATE, key)"""

# launcher -> controller
STARTED = 50
"""(STARTED, key, pid)"""
EXITED = 51
"""(EXITED, key, status): the exit status, or minus the signal's number"""

_HEADER = struct.Struct("<I")
_CHUNK = 1 << 18


class Wire:
    """One end of a stream socket that carries frames. Reads never wait; writes do so only in ``send``."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.at_end = False
        """Whether the other side has closed."""
        self._inbox = bytearray()
        self._outbox = bytearray()

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self.sock.fileno()

    def send(self, messages: list[Message]) -> None:
        """Sends one frame, waiting until all of it is on its way.

        Raises:
            OSError: If the other side is gone.
        """
        self.sock.sendall(frame(messages))

    def queue(self, messages: list[Message]) -> None:
        """Keeps one frame for the next ``flush``."""
        self._outbox += frame(messages)

    def flush(self) -> bool:
        """Sends what is queued as far as it goes without waiting. Whether nothing is left; a closed peer takes all."""
        while self._outbox:
            try:
                sent = self.sock.send(self._outbox, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                self._outbox.clear()
                return True
            del self._outbox[:sent]
        return True

    def receive(self) -> list[Message]:
        """Every message that has arrived whole; sets ``at_end`` when the other side has closed."""
        while True:
            try:
                chunk = self.sock.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionError:
                chunk = b""
            if not chunk:
                self.at_end = True
                break
            self._inbox += chunk
            if len(chunk) < _CHUNK:
                break
        return self.take()

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that are whole once ``chunk`` has arrived; for who reads the socket itself."""
        self._inbox += chunk
        return self.take()

    def take(self) -> list[Message]:
        """Every message that is whole in the inbox."""
        messages: list[Message] = []
        start, inbox = 0, self._inbox
        while len(inbox) - start >= _HEADER.size:
            end = start + _HEADER.size + _HEADER.unpack_from(inbox, start)[0]
            if len(inbox) < end:
                break
            with memoryview(inbox) as view:
                messages += pickle.loads(view[start + _HEADER.size : end])
            start = end
        if start:
            del inbox[:start]
        return messages

    def close(self) -> None:
        """Closes the socket."""
        self.sock.close()


def frame(messages: list[Message]) -> bytes:
    """The bytes of one frame."""
    body = pickle.dumps(messages, protocol=5)
    return _HEADER.pack(len(body)) + body
