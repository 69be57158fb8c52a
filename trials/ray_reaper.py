"""Ends what a Ray of ours leaves: a small process that waits until the study's controller is gone, killed or not.

Linux kills Ray's main processes with the controller, but not their helpers, which go on for a minute. They are found by
a mark in their environment, or (where a process wrote its title over that) by the log files that they hold open;
nothing else on the machine is touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

MARK = "VELODROME_RAY_FOLDER"
"""The variable's name; its value is the folder of the Ray that a process belongs to."""
_PATIENCE_S = 20.0


class Reaper:
    """One such process, started at once, from a controller that holds its standard input open.

    Args:
        folder: The folder of a Ray that is about to start with ``MARK`` set to it.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "velodrome.trials.ray_reaper", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def close(self) -> None:
        """Has everything ended and the folder removed; waits for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)


def end_all(folder: str, but: tuple[int, ...]) -> None:
    """Kills every process that belongs to the folder, until there is none ``but`` these, and removes the folder."""
    for _ in range(10):
        left = [process for process in psutil.process_iter() if process.pid not in but and _belongs(process, folder)]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not left:
            break
        psutil.wait_procs(left, timeout=1.0)
    shutil.rmtree(folder, ignore_errors=True)


def _belongs(process: psutil.Process, folder: str) -> bool:
    try:
        if process.uids().real != os.getuid():
            return False
        marked = process.environ().get(MARK) == folder
        return marked or any(file.path.startswith(f"{folder}/") for file in process.open_files())
    except (psutil.Error, OSError):
        return False


def main() -> None:
    """``python -m velodrome.trials.ray_reaper FOLDER``: waits for the end of its standard input."""
    controller = os.getppid()
    sys.stdin.buffer.read()
    end_all(sys.argv[1], (controller, os.getpid()))


if __name__ == "__main__":
    main()
