"""What a sweep costs beside its objective, with Optuna in the same run.

    python benchmarks/sweep_overhead.py            # everything, about three minutes
    python benchmarks/sweep_overhead.py --quick    # smaller counts

Three questions, each a table: trials/s with an objective that does nothing, metric rows/s with twenty reports a trial,
and the time of one ask + suggest + tell of TPE through the bridge. Then the limits of this machine that stand behind
them: raw SQLite, a pipe's round trip, an fsync.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from objectives import SPACE

import velodrome as velo
from velodrome.search.history import History
from velodrome.search.registry import make_sampler
from velodrome.seeding import generator
from velodrome.trials.manager import Progress
from velodrome.types import Goal, TrialState

HERE = Path(__file__).parent
optuna.logging.set_verbosity(optuna.logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller counts")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each figure; the median is shown")
    args = parser.parse_args()
    scale = 5 if args.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        trials_per_s(Path(folder), 5000 // scale, args.repeat)
        metric_rows_per_s(Path(folder), 1000 // scale, args.repeat)
        tpe_bridge((100, 1000) if args.quick else (100, 1000, 5000), args.repeat)
        limits(Path(folder))


# --- trials per second


def trials_per_s(folder: Path, count: int, repeat: int) -> None:
    """No-op objective, ten mixed parameters, random sampler."""
    ours, wall = [], []
    for run in range(repeat):
        rate, wall_s = _sweep(folder / f"noop{run}.db", "noop", count)
        ours.append(rate)
        wall.append(count / wall_s)
    memory = [_optuna_rate(None, count) for _ in range(repeat)]
    sqlite = [_optuna_rate(f"sqlite:///{folder}/optuna{run}.db", 100) for run in range(repeat)]
    best = statistics.median(memory)
    _table(f"no-op objective, 10 parameters, random sampler, {count} trials", "trials/s", best, [
        ("velodrome, 2 worker processes, durable: first to last trial", ours),
        ("velodrome, the same with start and end of everything", wall),
        ("Optuna, in memory, nothing durable, one process", memory),
        ("Optuna, SQLite file, 100 trials", sqlite),
    ])


def _sweep(store: Path, objective: str, count: int) -> tuple[float, float]:
    """Trials/s from the first committed results to the last, and the wall time of the whole sweep in seconds."""
    seen: list[tuple[float, int]] = []

    def note(progress: Progress) -> None:
        seen.append((time.perf_counter(), progress.finished))

    started_s = time.perf_counter()
    study = velo.sweep(
        f"{HERE / 'objectives.py'}:{objective}", trials=count, sampler="random", workers=2, seed=1, store=store,
        progress=note,
    )
    wall_s = time.perf_counter() - started_s
    [row] = study.query(
        "select min(started_at) as first, max(finished_at) as last, count(*) as n from trials "
        "where study_id = :study_id"
    )
    assert row["n"] == count
    last_commit_s = time.time() - (time.perf_counter() - seen[-1][0])
    return count / (max(last_commit_s, row["last"]) - row["first"]), wall_s


def _optuna_objective(trial: optuna.Trial) -> float:
    dropout = trial.suggest_float("dropout", 0.0, 0.9)
    trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    trial.suggest_float("momentum", 0.0, 0.99)
    trial.suggest_float("decay", 1e-8, 1e-2, log=True)
    trial.suggest_float("smoothing", 0.0, 0.5, step=0.05)
    trial.suggest_int("width", 16, 1024, log=True)
    depth = trial.suggest_int("depth", 1, 12)
    trial.suggest_int("batch", 32, 512, step=32)
    trial.suggest_categorical("activation", ["relu", "gelu", "tanh"])
    trial.suggest_categorical("norm", ["none", "batch", "layer"])
    return (dropout - 0.3) ** 2 + depth * 0.01


def _optuna_rate(storage: str | None, count: int) -> float:
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=1))
    started_s = time.perf_counter()
    study.optimize(_optuna_objective, n_trials=count)
    return count / (time.perf_counter() - started_s)


# --- metric rows per second


def metric_rows_per_s(folder: Path, count: int, repeat: int) -> None:
    """Twenty reports of three metrics each."""
    ours = [60 * _sweep(folder / f"reports{run}.db", "reports", count)[0] for run in range(repeat)]
    sqlite = [_optuna_reports(f"sqlite:///{folder}/optuna_reports{run}.db", 5) for run in range(repeat)]
    _table(f"20 reports of 3 metrics a trial, {count} trials", "metric rows/s", statistics.median(sqlite), [
        ("velodrome, 2 worker processes, in the store", ours),
        ("Optuna, SQLite file, 5 trials (1 metric a report)", sqlite),
    ])


def _optuna_reports(storage: str, count: int) -> float:
    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("dropout", 0.0, 0.9)
        for step in range(20):
            trial.report(value / (step + 1), step)
        return value

    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=1))
    started_s = time.perf_counter()
    study.optimize(objective, n_trials=count)
    return 20 * count / (time.perf_counter() - started_s)


# --- TPE through the bridge


def tpe_bridge(counts: tuple[int, ...], repeat: int) -> None:
    """One ask + suggest + tell at so many finished trials, ours and Optuna's in turn."""
    for count in counts:
        bridge, peer = _OurTPE(count), _OptunaTPE(count)
        ours, theirs = [], []
        for turn in range(max(10, 10 * repeat)):
            pair = [(bridge, ours), (peer, theirs)]
            for system, times in pair if turn % 2 else reversed(pair):  # neither always goes first
                gc.collect()
                times.append(_timed(system.step))
        _table(f"TPE: ask + suggest + tell, 10 parameters, {count} finished trials", "ms", statistics.median(theirs), [
            ("velodrome, through the bridge", ours), ("Optuna, in memory", theirs),
        ])


class _OurTPE:
    def __init__(self, count: int) -> None:
        self.history = History(SPACE, Goal.parse("minimize value"))
        self.number = 0
        self.sampler = make_sampler("random", seed=1)
        for _ in range(count):
            self.step()
        self.sampler = make_sampler("tpe", seed=1)
        self.step()

    def step(self) -> None:
        suggestion = self.sampler.suggest(self.number, self.history, generator(1, "suggest", self.number))
        self.history.start(self.number, suggestion)
        value = (float(suggestion.params["dropout"] or 0) - 0.3) ** 2 + float(suggestion.params["depth"] or 0) * 0.01
        self.history.finish(self.number, TrialState.COMPLETED, (value,))
        self.number += 1


class _OptunaTPE:
    def __init__(self, count: int) -> None:
        self.study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        self.study.optimize(_optuna_objective, n_trials=count)
        self.study.sampler = optuna.samplers.TPESampler(seed=1)
        self.step()

    def step(self) -> None:
        trial = self.study.ask()
        self.study.tell(trial, _optuna_objective(trial))


def _timed(step: Callable[[], None]) -> float:
    started_s = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - started_s)


# --- limits


def limits(folder: Path) -> None:
    """What the machine itself allows."""
    rows = [(i, "accuracy", 1, 0.5, i, 0.0) for i in range(200_000)]
    db = sqlite3.connect(folder / "raw.db", isolation_level=None)
    db.execute("pragma journal_mode=wal")
    key = "primary key (trial_id, name, step)"
    db.execute(f"create table m (trial_id, name, step, value, seq, at, {key}) without rowid")
    started_s = time.perf_counter()
    for start in range(0, len(rows), 1000):
        db.execute("begin immediate")
        db.executemany("insert into m values (?, ?, ?, ?, ?, ?)", rows[start:start + 1000])
        db.execute("commit")
    raw = len(rows) / (time.perf_counter() - started_s)
    db.close()

    with (folder / "fsync").open("wb") as file:
        syncs = []
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            syncs.append(_timed(lambda: os.fsync(file.fileno())))
    print("\nlimits of this machine")
    print(f"  raw SQLite, batches of 1,000 metric rows     {raw:12,.0f} rows/s")
    print(f"  fsync of a page                              {statistics.median(syncs):12.2f} ms")
    print(f"  a byte to another process and back           {_round_trip_us():12.1f} us")


def _round_trip_us() -> float:
    here, there = socket.socketpair()
    echo = "import socket, sys\ns = socket.socket(fileno=int(sys.argv[1]))\nwhile d := s.recv(1): s.send(d)"
    with subprocess.Popen([sys.executable, "-c", echo, str(there.fileno())], pass_fds=[there.fileno()]):
        there.close()
        here.send(b"x")
        here.recv(1)
        started_s = time.perf_counter()
        for _ in range(5000):
            here.send(b"x")
            here.recv(1)
        elapsed_s = time.perf_counter() - started_s
        here.close()
    return elapsed_s / 5000 * 1e6


def _table(title: str, unit: str, reference: float, rows: list[tuple[str, list[float]]]) -> None:
    print(f"\n{title}")
    print(f"  {'':<62}{'median ' + unit:>22}{'min':>11}{'max':>11}{'ratio':>8}")
    for name, figures in rows:
        median = statistics.median(figures)
        print(
            f"  {name:<62}{median:>22,.2f}{min(figures):>11,.2f}{max(figures):>11,.2f}{median / reference:>8.2f}"
        )


if __name__ == "__main__":
    main()
