"""Two programs that take turns, each in fresh processes, so that a busy machine hits both alike; and their table."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys


def steps_per_second(python: str, code: str, threads: int, *words: object) -> float:
    """What a program prints last, run by a Python of its own, whose libraries start so many threads."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code, *map(str, words)], env=env, capture_output=True, text=True, check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.split()[-1])


def print_speeds(what: str, speeds: dict[tuple[str, int], list[float]]) -> None:
    """The table: for each program and number of ``what``, the median, lowest and highest of its turns."""
    print(f"{'':20}{what:>8}{'steps/s':>12}{'lowest':>12}{'highest':>12}")
    for (name, number), found in speeds.items():
        print(f"{name:20}{number:>8}{statistics.median(found):>12,.0f}{min(found):>12,.0f}{max(found):>12,.0f}")
