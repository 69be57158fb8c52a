"""Ill-treats some hundreds of short studies, and prints what that cost: ``python -m tests.faults.campaign --runs 200``.

Every study is disturbed by one kind of fault at random times, resumed until it is finished, and then looked at: each
trial there once, with the value and the reports that it must have; nothing acknowledged was changed; no process and
no owner left; and whenever velo ended early it said why. The disk is full at every single write that SQLite makes in a
study, one study for each.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.episodes import Episode, Fault
from tests.support.faults import FAULTS, FULL_DISK, counted, node_lost
from tests.support.ray_nodes import three_nodes


@dataclass(slots=True)
class Tally:
    """What one kind of fault came to."""

    runs: int = 0
    injected: int = 0
    starts: int = 0
    problems: list[str] = field(default_factory=list)
    bad_runs: int = 0

    def add(self, episode: Episode) -> None:
        """Counts a run."""
        self.runs += 1
        self.injected += episode.injected
        self.starts += episode.starts
        self.problems += episode.problems
        self.bad_runs += bool(episode.problems)


def run(fault: Fault, number: int, seed: int) -> Episode:
    """One study under one fault, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="velo-fault-") as folder:
        chance = random.Random(f"{fault.name} {number} {seed}")
        return Episode(Path(folder).resolve(), fault, chance, number).run()


def count_writes() -> int:
    """How often SQLite writes in an undisturbed study."""
    with tempfile.TemporaryDirectory(prefix="velo-fault-") as folder:
        fault = replace(FULL_DISK, before=counted)
        Episode(Path(folder).resolve(), fault, random.Random(0)).run()
        return int(Path(folder, "writes").read_text())


def campaign(
    runs: int, seed: int, jobs: int, faults: Sequence[Fault] = FAULTS, writes: Iterable[int] | None = None
) -> dict[str, Tally]:
    """Runs it: about ``runs`` studies over the faults, and one for each of SQLite's ``writes`` (from 0; None: all).

    Ctrl-C ends it early, with what there is by then.
    """
    tallies = {fault.name: Tally() for fault in faults}
    work = [(faults[i % len(faults)], i // len(faults)) for i in range(runs)]
    at = list(range(count_writes()) if writes is None else writes)
    if at:
        tallies[FULL_DISK.name] = Tally()
        work += [(FULL_DISK, n) for n in at]
    pool = ThreadPoolExecutor(jobs)
    try:
        for done, episode in enumerate(pool.map(lambda item: run(*item, seed), work), start=1):
            tallies[episode.fault.name].add(episode)
            for problem in episode.problems:
                print(f"{episode.fault.name}, run {episode.number}: {problem}", file=sys.stderr, flush=True)
            if done % 20 == 0:
                print(f"{done} of {len(work)} studies", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        pool.shutdown(cancel_futures=True)
    return tallies


@contextmanager
def all_faults() -> Iterator[list[Fault]]:
    """Every fault that comes at random times, with the cluster that one of them needs."""
    with tempfile.TemporaryDirectory(prefix="velo-nodes-") as folder, three_nodes(Path(folder)) as nodes:
        yield [*FAULTS, node_lost(nodes)]


def table(tallies: dict[str, Tally]) -> str:
    """The tallies as Markdown."""
    lines = ["| fault | studies | faults that hit | starts of velo | studies with a loss |", "|---|---|---|---|---|"]
    total = Tally()
    for name, tally in tallies.items():
        lines.append(f"| {name} | {tally.runs} | {tally.injected} | {tally.starts} | {tally.bad_runs} |")
        total.runs, total.injected = total.runs + tally.runs, total.injected + tally.injected
        total.starts, total.bad_runs = total.starts + tally.starts, total.bad_runs + tally.bad_runs
    lines.append(f"| all | {total.runs} | {total.injected} | {total.starts} | {total.bad_runs} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="studies, besides one for each write of the full disk")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="studies at once")
    parser.add_argument("--only", default="", help="faults whose names contain this")
    parser.add_argument("--no-full-disk", action="store_true")
    args = parser.parse_args()
    began = time.monotonic()
    with all_faults() as faults:
        chosen = [fault for fault in faults if args.only in fault.name]
        tallies = campaign(args.runs, args.seed, args.jobs, chosen, [] if args.no_full_disk else None)
    print(table(tallies))
    print(f"{time.monotonic() - began:.0f} s, seed {args.seed}", file=sys.stderr)
    sys.exit(any(tally.problems for tally in tallies.values()))


if __name__ == "__main__":
    main()
