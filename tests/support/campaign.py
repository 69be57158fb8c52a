"""What the fault tests share: a ``velo`` process to be ill-treated, its workers, and what a store must never show."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

OBJECTIVE = '''
import time
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0), k=velo.Int(1, 5)), goal="minimize value")
def train(trial):
    for step in range(4):
        time.sleep({pause})
        trial.report(step, value=trial.params["x"] / (step + 1), twice=2.0 * trial.params["x"])
    return trial.params["x"]
'''


def write_objective(folder: Path, text: str = OBJECTIVE, pause: float = 0.005) -> Path:
    path = folder / "train.py"
    path.write_text(text.replace("{pause}", str(pause)))
    return path


def start(folder: Path, *args: str, before: str = "", ledger: Path | None = None) -> subprocess.Popen[str]:
    """A ``velo`` process in ``folder``; ``before`` is Python that it runs first, ``ledger`` where its leases are."""
    env = os.environ if ledger is None else {**os.environ, "VELODROME_LEDGER": str(ledger)}
    program = ["-c", f"{before}\nfrom velodrome.cli.main import main\nmain()"] if before else ["-m", "velodrome"]
    return _Velo(
        [sys.executable, *program, *args], cwd=folder, env=env, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


class _Velo(subprocess.Popen[str]):
    """A process that is dead and closed when the test is over, whatever the test did."""

    def __del__(self) -> None:
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        if self.poll() is None:
            self.kill()
            self.wait()


def velo(folder: Path, *args: str, timeout_s: float = 120.0, before: str = "") -> tuple[int, str, str]:
    """Runs ``velo`` to its end; returns exit code, stdout and stderr."""
    process = start(folder, *args, before=before)
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Every process below this one: its launcher and the workers."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes: the launcher's children."""
    found = []
    for child in family(process):
        try:
            if child.parent() is not None and child.parent().pid != process.pid:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def loaded_workers(folder: Path, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Those that have loaded the objective: three in a row that die before would stop the study, as they should."""
    pids = {path.stem.rpartition("-")[2] for path in folder.glob("*.logs/*/worker-*.log")}
    return [worker for worker in workers(process) if str(worker.pid) in pids]


def kill9(process: psutil.Process | subprocess.Popen[str]) -> None:
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for(what: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Waits until ``what()`` is true and returns it."""
    deadline = time.monotonic() + timeout_s
    while not (result := what()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain"
        time.sleep(0.01)
    return result


def wait_until_gone(processes: list[psutil.Process], timeout_s: float = 5.0) -> None:
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], f"still there: {alive}"


def rows(folder: Path, sql: str, store: str = "velodrome.db") -> list[tuple[Any, ...]]:
    """What a reader sees in the store; nothing where there is no store yet."""
    path = folder / store
    if not path.exists():
        return []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    finally:
        connection.close()


def finished(folder: Path) -> dict[int, tuple[Any, ...]]:
    """The finished trials as a reader sees them: number -> (state, value, attempt)."""
    sql = "select number, state, value, attempt from trials where state in ('completed', 'pruned', 'failed')"
    return {number: tuple(rest) for number, *rest in rows(folder, sql)}


def check_whole(folder: Path, count: int, *, steps: int = 4, metrics: int = 2) -> None:
    """Exactly ``count`` trials, numbered without a gap, each with its reports once, all equal to what they must be."""
    assert rows(folder, "pragma integrity_check") == [("ok",)]
    assert sorted(finished(folder)) == list(range(count))
    params = dict(rows(folder, "select trial_id, value from params where name = 'x'"))
    assert len(params) == count
    trials = rows(folder, "select id, state, value from trials order by number")
    assert all(state == "completed" and value == params[key] for key, state, value in trials)
    counted = rows(folder, "select trial_id, count(*), max(step) from metrics group by trial_id")
    assert {(n, last) for _, n, last in counted} == {(steps * metrics, steps - 1)}
    assert len(counted) == count
    wrong = rows(
        folder,
        "select m.* from metrics m join params p on p.trial_id = m.trial_id and p.name = 'x' "
        "where m.name = 'value' and abs(m.value - p.value / (m.step + 1)) > 1e-12",
    )
    assert wrong == []
    seqs = [seq for (seq,) in rows(folder, "select seq from events order by seq")]
    assert len(seqs) == len(set(seqs))
    suggested = [n for (n,) in rows(folder, "select number from events where kind = 'suggested' order by seq")]
    assert suggested == list(range(count))
    returned = [n for (n,) in rows(folder, "select number from events where kind = 'returned'")]
    assert sorted(returned) == list(range(count)), "each trial returned once"
    json.dumps(trials)
