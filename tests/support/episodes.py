"""One short study that is ill-treated: started, disturbed, resumed until it is finished, and then looked at closely."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.campaign import family, finished, kill9, loaded_workers, rows, start
from velodrome.resources.inventory import Inventory
from velodrome.resources.ledger_place import Place
from velodrome.resources.overview import look

STEPS = 6
MAX_STARTS = 12
ROOT = Path(__file__).parents[2]
OBJECTIVE = '''
import time
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize value", on_oom="halve")
def train(trial):
    x, total, first = trial.params["x"], 0.0, 1
    if (state := trial.restore()) is not None:
        total, first = state["total"], trial.restored_step + 1
    {extra}
    for step in range(first, {steps} + 1):
        time.sleep({pause})
        total += x * step
        trial.report(step, value=total, twice=2 * total)
        if step % 2 == 0:
            trial.checkpoint(step, {"total": total})
    return total
'''


def total_of(x: float, steps: int = STEPS) -> float:
    """What a trial must come to, whatever happened to it on the way."""
    total = 0.0
    for step in range(1, steps + 1):
        total += x * step
    return total


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of ill-treatment.

    Attributes:
        name: Its name in the table.
        disturb: Called after each start of the study's process; returns when it has done its worst.
        before: Python that the study's process runs first.
        extra: A line of the objective.
        args: Options of ``velo sweep``.
        failure: The class of failure that a trial with this parameter must end with; None to complete.
        pauses_s: How long a step takes, one of these.
        trials: How many the study has.
        starts: How often the study is started with the fault; after that nothing disturbs it any more.
        leases: Whether what it holds of this machine is in the ledger; a cluster's is not.
    """

    name: str
    disturb: Callable[[Episode], None]
    before: Callable[[Episode], str] = lambda _: ""
    extra: str = "pass"
    args: tuple[str, ...] = ()
    failure: Callable[[float], str | None] = lambda _: None
    pauses_s: tuple[float, ...] = (0.005, 0.02, 0.04)
    trials: int = 8
    starts: int = 3
    leases: bool = True


@dataclass(slots=True)
class Episode:
    """The study, while it is ill-treated.

    Attributes:
        folder: Where it is; nobody else is there.
        fault: What is done to it.
        chance: Decides when and to whom.
        number: Which of the runs with this fault it is, from 0.
        injected: How often the fault came to pass.
        starts: How often its process was started.
        problems: What should never be, a sentence each.
        others: Processes seen below it.
    """

    folder: Path
    fault: Fault
    chance: random.Random
    number: int = 0
    injected: int = 0
    starts: int = 0
    problems: list[str] = field(default_factory=list)
    others: dict[int, psutil.Process] = field(default_factory=dict)
    acknowledged: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    # --- for those who disturb

    @property
    def ledger(self) -> Path:
        """The ledger of the study's leases, which no other study looks at."""
        return self.folder / "ledger/ledger.db"

    @property
    def runs(self) -> bool:
        """Whether the study's process is still there."""
        return self.process is not None and self.process.poll() is None

    def moments(self, shortest_s: float, longest_s: float) -> Iterator[None]:
        """Random moments while the study's process runs; at each, what it has acknowledged is noted."""
        while self.runs:
            end_at = time.monotonic() + self.chance.uniform(shortest_s, longest_s)
            while self.runs and time.monotonic() < end_at:
                time.sleep(0.01)
                self.look()
            if self.runs:
                yield

    def look(self) -> None:
        """Notes the processes, and the finished trials that a reader sees: none may ever change or be gone."""
        assert self.process is not None
        self.others.update((p.pid, p) for p in family(self.process))
        with contextlib.suppress(Exception):  # a store that is being made, or is locked: there is nothing to see
            now = finished(self.folder)
            for number, row in self.acknowledged.items():
                if now.get(number) != row:
                    self.problems.append(f"trial {number} was acknowledged as {row}, and is {now.get(number)}")
            self.acknowledged |= now

    def victims(self) -> list[psutil.Process]:
        """The workers that run trials."""
        assert self.process is not None
        return loaded_workers(self.folder, self.process)

    # --- the whole of it

    def run(self) -> Episode:
        """Starts the study, disturbs it, and goes on until it is finished; then looks at what it left."""
        text = OBJECTIVE.replace("{extra}", self.fault.extra).replace("{steps}", str(STEPS))
        (self.folder / "train.py").write_text(text.replace("{pause}", str(self.chance.choice(self.fault.pauses_s))))
        while self.starts < MAX_STARTS and not self._is_finished():
            self.starts += 1
            disturbed = self.starts <= self.fault.starts
            known = bool(rows(self.folder, "select 1 from studies"))
            args = ["resume", "s"] if known else self._sweep()
            before = self.fault.before(self) if disturbed else ""
            self.process = start(self.folder, *args, before=before, ledger=self.ledger)
            if disturbed:
                self.fault.disturb(self)
            self._wait()
        self._check()
        return self

    def _sweep(self) -> list[str]:
        seed = str(self.chance.randrange(1000))
        return ["sweep", "train.py", "--trials", str(self.fault.trials), "--workers", "2", "--sampler", "random",
                "--seed", seed, "--name", "s", "--keep-checkpoints", "all", "-q", *self.fault.args]

    def _is_finished(self) -> bool:
        return rows(self.folder, "select state from studies") == [("finished",)]

    def _wait(self) -> None:
        """Waits for the process; whatever ended it, it says so in plain words, and leaves no process."""
        process = self.process
        assert process is not None
        self.look()
        try:
            _, err = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            self.problems.append("the study hangs")
            kill9(process)
            _, err = process.communicate()
        code = process.returncode
        if code > 0 and "error:" not in err and "velo resume" not in err:
            self.problems.append(f"it ended with {code} and did not say why: {err[-300:]!r}")
        if "Traceback" in err:
            self.problems.append(f"it showed a traceback of its own: {err[-800:]}")
        _, alive = psutil.wait_procs(list(self.others.values()), timeout=5.0)
        self.others.clear()
        left = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        if not self.fault.leases:  # its workers are not below it: on a node that is lost they end by themselves
            psutil.wait_procs(_processes_in(self.folder), timeout=10.0)
        left += _processes_in(self.folder)
        if left:
            self.problems.append(f"processes were left: {left}")
            for each in left:
                kill9(each)
        self._check_leases(code)

    def _check_leases(self, code: int) -> None:
        """Nothing is held any more; a process that ended well has left no lease, and a dead one's don't count."""
        if not self.ledger.exists():
            return
        place = Place(self.ledger, True, "test")
        held = [device for device in look(place, Inventory.detect(), time.time()).devices if device.held]
        self._must(not held, f"leases were leaked: {held}")
        if code == 0:
            with contextlib.closing(sqlite3.connect(f"{self.ledger.as_uri()}?mode=ro", uri=True)) as conn:
                left = conn.execute("select study from leases join sharers on id = sharer").fetchall()
            self._must(not left, f"leases are left in the ledger: {left}")

    # --- what must hold in the end

    def _check(self) -> None:
        try:
            self._check_rows()
        except Exception as error:
            self.problems.append(f"the store can't be checked: {error!r}")

    def _check_rows(self) -> None:
        folder = self.folder
        studies = rows(folder, "select state, owner_pid from studies")
        self._must(studies == [("finished", 0)], f"not finished, or still owned: {studies}")
        self._must(rows(folder, "pragma integrity_check") == [("ok",)], "the database is damaged")
        self._must(self.ledger.exists() or not self.fault.leases, "it ran without a lease")
        found = finished(folder)
        self._must(sorted(found) == list(range(self.fault.trials)), f"trials lost or doubled: {sorted(found)}")
        lost = {n: (row, found.get(n)) for n, row in self.acknowledged.items() if found.get(n) != row}
        self._must(not lost, f"acknowledged and changed: {lost}")
        xs = dict(rows(folder, "select t.number, p.value from params p join trials t on t.id = p.trial_id"))
        self._must(len(xs) == self.fault.trials, f"{len(xs)} trials have parameters")
        ends = dict(rows(folder, "select number, failure_class from trials"))
        for number, (state, value, _) in found.items():
            expected = self.fault.failure(xs[number])
            if expected is None:
                good = state == "completed" and value == total_of(xs[number])
            else:
                good = state == "failed" and ends[number] == expected
            self._must(good, f"trial {number} ({xs[number]}): {state} {ends[number]} {value}")
        self._check_reports(xs)
        for kind in ("suggested", "returned"):
            numbers = [n for (n,) in rows(folder, f"select number from events where kind = '{kind}' order by number")]
            self._must(numbers == list(range(self.fault.trials)), f"{kind}: {numbers}")
        known = {path for (path,) in rows(folder, "select path from checkpoints")}
        there = {str(path.relative_to(folder)) for path in (folder / "velodrome.files/s").glob("*/*")}
        self._must(known == there, f"checkpoints in the store and on the disk differ: {known ^ there}")

    def _check_reports(self, xs: dict[int, float]) -> None:
        reports = rows(self.folder, "select t.number, m.name, m.step, m.value from metrics m join trials t "
                                    "on t.id = m.trial_id order by 1, 2, 3")
        expected = [
            (number, name, step, None if self.fault.failure(xs[number]) else factor * total_of(xs[number], step))
            for number in range(self.fault.trials) for name, factor in (("twice", 2.0), ("value", 1.0))
            for step in range(1, STEPS + 1)
        ]
        self._must(reports == expected, f"{len(reports)} reports for {len(expected)}, or wrong ones")

    def _must(self, true: bool, problem: str) -> None:
        if not true:
            self.problems.append(problem)


def _processes_in(folder: Path) -> list[psutil.Process]:
    """Every process that works in the folder: the launcher and its workers do."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
