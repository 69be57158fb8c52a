"""A study of 100,000 trials, and the start of the program: memory, resume, leaderboard, import and help.

    python benchmarks/scale.py                 # 100,000 trials, about two minutes
    python benchmarks/scale.py --trials 10000

Each figure stands beside its bar. The study runs through two worker processes with an objective that does nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent

_RUN = """
import sys, time
import psutil
import velodrome as velo
memory, trials, started_s = [], [], time.perf_counter()
def note(progress):
    trials.append(progress.finished)
    memory.append(psutil.Process().memory_info().rss)
study = velo.sweep(sys.argv[1], trials=int(sys.argv[2]), sampler="random", workers=2, seed=1, store=sys.argv[3],
                   name="noop", progress=note)
elapsed_s = time.perf_counter() - started_s
warm = next(rss for done, rss in zip(trials, memory) if done >= 1000)
print(elapsed_s, (memory[-1] - warm) / 2**20, memory[-1] / 2**20)
"""

_RESUME = """
import sys, time
started_s = time.perf_counter()
import velodrome as velo
first = []
def note(progress):
    if progress.finished > int(sys.argv[1]) and not first:
        first.append(time.perf_counter() - started_s)
velo.resume("noop", trials=int(sys.argv[1]) + 10, store=sys.argv[2], progress=note)
print(first[0])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    print(f"{'':<66}{'measured':>12}{'bar':>12}")
    start_up(args.repeat)
    with tempfile.TemporaryDirectory() as folder:
        a_large_study(Path(folder) / "scale.db", args.trials, args.repeat)


def start_up(repeat: int) -> None:
    """The time of a whole process, the interpreter's own start included."""
    bare = _wall_ms([sys.executable, "-c", "pass"], repeat)
    _row("python -c pass, whole process (for comparison)", f"{bare:.0f} ms", "")
    importing = _wall_ms([sys.executable, "-c", "import velodrome"], repeat)
    _row("import velodrome, whole process", f"{importing:.0f} ms", "100 ms")
    velo = [str(Path(sys.executable).with_name("velo")), "--help"]
    _row("velo --help, whole process", f"{_wall_ms(velo, repeat):.0f} ms", "150 ms")


def a_large_study(store: Path, trials: int, repeat: int) -> None:
    """Runs it, then asks it questions and goes on with it."""
    objective = f"{HERE / 'objectives.py'}:noop"
    elapsed_s, grown, peak = map(float, _python(_RUN, objective, str(trials), str(store)).split())
    _row(f"{trials:,} trials, 2 workers", f"{trials / elapsed_s:,.0f} /s", "3,000 /s")
    _row("growth of the controller's memory after the first 1,000 trials", f"{grown:.1f} MiB", "60 MiB")
    _row("  its whole resident memory", f"{peak:.0f} MiB", "")
    _row("size of the store", f"{store.stat().st_size / 2**20:.0f} MiB", "")
    from velodrome.store.reader import Reader

    with Reader(store) as reader:
        for sql in ("select * from leaderboard limit 10", "select * from leaderboard where study = 'noop' limit 10"):
            times = []
            for _ in range(repeat):
                started_s = time.perf_counter()
                _, rows = reader.query(sql)
                assert len(list(rows)) == 10
                times.append(1e3 * (time.perf_counter() - started_s))
            _row(sql, f"{statistics.median(times):.1f} ms", "100 ms")
    resumed = float(_python(_RESUME, str(trials), str(store)))
    _row("resume to the first new result committed, imports included", f"{resumed:.2f} s", "5 s")
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    _row("  largest process of all", f"{children:.0f} MiB", "")


def _python(code: str, *args: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *args], check=True, capture_output=True, text=True, env={**os.environ}
    ).stdout


def _wall_ms(command: list[str], repeat: int) -> float:
    times = []
    for _ in range(repeat + 1):
        started_s = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(1e3 * (time.perf_counter() - started_s))
    return statistics.median(times[1:])


def _row(name: str, measured: str, bar: str) -> None:
    print(f"{name:<66}{measured:>12}{bar:>12}", flush=True)


if __name__ == "__main__":
    main()
