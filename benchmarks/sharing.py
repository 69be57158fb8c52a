"""Two tenants on one machine: what each really gets, and what the ledger costs.

    python benchmarks/sharing.py             # everything, about four minutes
    python benchmarks/sharing.py --seconds 30 --quantum 5 --repeat 1

Two studies with endless trials of about 0.2 s, of tenants with weights 3 and 1, both of which could use two cores. The
processes are told that there are two. What counts is processor time: each trial measures its own, and those that ended
within the window are added up. A turn lasts for the quantum at least, so within a minute quanta of seconds are wanted
(a quantum of 30 s makes two turns of it). Then the ledger by itself: what one call costs while nothing changes, while
somebody waits, and when something is written; and what that is for each trial of a sweep.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from velodrome.resources.demand import Demand
from velodrome.resources.ledger import Ledger
from velodrome.resources.ledger_place import Place
from velodrome.resources.state import Priority

WEIGHTS = {"ann": 3, "bob": 1}
VIEW = {"cores": 2000, "memory": 8 << 30}
OBJECTIVE = """\
import time

def train(trial):
    started = time.process_time()
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        sum(range(1000))
    return time.process_time() - started
"""
SWEEP = """\
import sys
import velodrome as velo
velo.sweep("{folder}/spin.py", velo.Space(x=velo.Float(0, 1)), trials=1_000_000, sampler="random", workers=2,
           goal="maximize cpu_s", timeout_s={seconds}, store="{folder}/{tenant}.db", name="endless", progress=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="the window that is measured")
    parser.add_argument("--quantum", type=float, default=2.0, help="quantum_s of the settings, in seconds")
    parser.add_argument("--repeat", type=int, default=3, help="how many such windows, one after another")
    parser.add_argument("--no-shares", action="store_true", help="only what the ledger costs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.no_shares:
            print(f"## Weights 3:1, endless trials, two cores, {args.seconds:g} s, quantum {args.quantum:g} s\n")
            print("| core time of ann, bob, s | ratio | time in trials of ann, bob, s | ratio | of all core time |")
            print("|---|---|---|---|---|")
            for turn in range(args.repeat):
                (place := Path(folder, str(turn))).mkdir()
                shares(place, args.seconds, args.quantum)
        cost(Path(folder))


def shares(folder: Path, seconds: float, quantum_s: float) -> None:
    """Processor time of both tenants within a window that begins when both have run for some seconds."""
    (folder / "spin.py").write_text(OBJECTIVE)
    tables = [f"[sharing]\nquantum_s = {quantum_s}\n"]
    tables += [f"[tenants.{tenant}]\nweight = {weight}\n" for tenant, weight in WEIGHTS.items()]
    (folder / "ledger.toml").write_text("".join(tables))
    head_s, tail_s = 10.0, 3.0
    studies = []
    for tenant in WEIGHTS:
        env = {**os.environ, "VELODROME_LEDGER": str(folder / "ledger.db"), "VELODROME_TENANT": tenant}
        code = SWEEP.format(folder=folder, tenant=tenant, seconds=head_s + seconds + tail_s)
        cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0))[:2])
        studies.append(subprocess.Popen(["taskset", "-c", cores, sys.executable, "-c", code], env=env))
    start = time.time() + head_s
    for study in studies:
        if study.wait() != 0:
            raise SystemExit("a study failed")
    times = {tenant: _times_s(folder / f"{tenant}.db", start, start + seconds) for tenant in WEIGHTS}
    cores, slots = ([times[tenant][i] for tenant in WEIGHTS] for i in (0, 1))
    print(f"| {cores[0]:.1f}, {cores[1]:.1f} | {cores[0] / cores[1]:.2f} | {slots[0]:.1f}, {slots[1]:.1f} | "
          f"{slots[0] / slots[1]:.2f} | {sum(cores) / (2 * seconds):.0%} |", flush=True)


def _times_s(store: Path, start: float, end: float) -> tuple[float, float]:
    """Processor time and time of the trials within the window, those at its edges by their part in it."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as conn, conn:
        rows = conn.execute("SELECT value, started_at, finished_at FROM trials WHERE state = 'completed'").fetchall()
    core_s = slot_s = 0.0
    for cpu_s, began, ended in rows:
        inside = max(0.0, min(ended, end) - max(began, start))
        core_s += cpu_s * inside / max(ended - began, 1e-9)
        slot_s += inside
    return core_s, slot_s


def cost(folder: Path, num: int = 1000) -> None:
    """The ledger's calls, one process; medians of five runs."""
    place = Place(folder / "cost.db", False, "benchmark")
    mine, theirs = Ledger(place), Ledger(place)
    me, _ = mine.join("ann", "mine", Priority.NORMAL, Demand(), VIEW, 2)

    def write(step: int) -> None:
        mine.update(me, 1 + step % 2)

    figures = [
        ("nothing new: the version is looked at", _us(lambda _: mine.has_changed(), num)),
        ("a transaction that changes nothing", _us(lambda _: mine.update(me, 2), num)),
        ("a transaction that writes", _us(write, num)),
    ]
    other, _ = theirs.join("bob", "theirs", Priority.NORMAL, Demand(), VIEW, 2)
    figures.append(("a transaction while another tenant waits", _us(lambda _: mine.update(me, 2), num)))
    theirs.leave(other)
    joined = statistics.median(_us(lambda _: mine.leave(
        mine.join("ann", "more", Priority.NORMAL, Demand(), VIEW, 1)[0]
    ), num // 10) for _ in range(3))
    figures.append(("a study comes and goes", joined))
    mine.close()
    theirs.close()
    print("\n## What a call to the ledger costs\n\n| call | us |\n|---|---|")
    for name, us in figures:
        print(f"| {name} | {us:.0f} |")
    quiet, busy = figures[0][1], figures[3][1]
    per_s = 20 * quiet + 2 * busy
    print(f"\nA study asks 5 times a second, 20 times while it waits: at most {per_s / 1000:.2f} ms of each second.\n"
          f"Trials make no calls: at 10 trials/s that is {per_s / 1e4:.3f} ms a trial.")


def _us(call: object, num: int) -> float:
    """Microseconds of one call: the median of five runs."""
    assert callable(call)
    found = []
    for _ in range(5):
        started = time.perf_counter()
        for step in range(num // 5):
            call(step)
        found.append((time.perf_counter() - started) / (num // 5) * 1e6)
    return statistics.median(found)


if __name__ == "__main__":
    main()
