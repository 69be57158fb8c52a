"""The faults of the campaign: what is done to a study, at random times, and what must come of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil

from tests.support.campaign import family, kill9, rows
from tests.support.episodes import ROOT, Episode, Fault
from tests.support.ray_nodes import RayNodes
from velodrome.resources.slots import Slot
from velodrome.trials.share import Allowance

_IMPATIENT = "from velodrome.trials import manager\nmanager._STORE_PATIENCE_S = 0.3\n"
_PATH = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"


def nothing(episode: Episode) -> None:
    """Only looks on."""
    for _ in episode.moments(0.05, 0.1):
        pass


def until_it_ends(episode: Episode) -> None:
    """Looks on; the fault is in the process itself, and has hit if that does not end well."""
    nothing(episode)
    episode.injected += episode.process is not None and episode.process.returncode != 0


# --- processes that die or stop


def kill_workers(episode: Episode) -> None:
    for _ in episode.moments(0.02, 0.3):
        if episode.injected < 4 and (victims := episode.victims()):
            kill9(episode.chance.choice(victims))
            episode.injected += 1


def kill_controller(episode: Episode, *, everybody: bool = False) -> None:
    """At any moment of its life: while it starts, while trials run, while it ends."""
    assert episode.process is not None
    if episode.chance.random() < 0.7:
        for _ in episode.moments(0.01, 0.05):
            if rows(episode.folder, "select 1 from trials"):
                break
    for _ in episode.moments(0.0, 0.5):
        episode.injected += 1
        for victim in [episode.process, *(family(episode.process) if everybody else [])]:
            kill9(victim)
        episode.process.wait()


def stop_worker(episode: Episode) -> None:
    """As Ctrl-Z would, for good; a worker that has stopped can't say so."""
    for _ in episode.moments(0.02, 0.2):
        if episode.injected < 2 and (victims := episode.victims()):
            try:
                victims[0].suspend()
                episode.injected += 1
            except psutil.NoSuchProcess:
                continue


def in_commit(episode: Episode) -> str:
    """SIGTERM while a transaction is open."""
    nth = episode.chance.randrange(1, 12)
    return f"""
import os, signal
from velodrome.store.buffers import Buffers
write, seen = Buffers.write, []
def hit(self, conn):
    seen.append(1)
    if len(seen) == {nth}:
        os.kill(os.getpid(), signal.SIGTERM)
    write(self, conn)
Buffers.write = hit
"""


# --- the store


def counted(_episode: Episode) -> str:
    """How often SQLite writes, into the file ``writes``."""
    return _PATH + """
import atexit
from tests.support.full_disk import install
seen = install(1 << 60)
atexit.register(lambda: open("writes", "w").write(str(seen[0])))
"""


def full_disk(episode: Episode) -> str:
    """From SQLite's n-th write on there is no room; the second start finds room again."""
    return _PATH + _IMPATIENT + f"from tests.support.full_disk import install\ninstall({episode.number + 1})\n"


def lock(episode: Episode, hold_s: tuple[float, float]) -> None:
    """Somebody else writes to the database, and takes long over it."""
    path = episode.folder / "velodrome.db"
    for _ in episode.moments(0.02, 0.3):
        if not path.exists() or episode.injected >= 3 * episode.starts:
            continue
        stranger = sqlite3.connect(path, isolation_level=None, timeout=0.5)
        try:
            stranger.execute("begin immediate")
            episode.injected += 1
            time.sleep(episode.chance.uniform(*hold_s))
            stranger.execute("rollback")
        except sqlite3.OperationalError:
            continue
        finally:
            stranger.close()


def impatient(_episode: Episode) -> str:
    """A study that waits for a tenth of a second, so that the stranger need not hold the store for ten."""
    return _IMPATIENT + "from velodrome.store import connect\nconnect._BUSY_TIMEOUT_S = 0.1\n"


# --- files and clocks


def damage_checkpoints(episode: Episode) -> None:
    """Kills the study, and damages one of the files that it would go on from."""
    assert episode.process is not None
    for _ in episode.moments(0.02, 0.3):
        if rows(episode.folder, "select 1 from checkpoints"):
            kill9(episode.process)
            episode.process.wait()
    running = rows(episode.folder, "select c.path from checkpoints c join trials t on t.id = c.trial_id "
                                   "where t.state = 'running'")
    there = [folder for (path,) in running if (folder := episode.folder / path).exists()]
    if not there:
        return  # or it was this that was damaged the last time
    folder = episode.chance.choice(there)
    match episode.chance.randrange(3):
        case 0:
            shutil.rmtree(folder)
        case 1:
            _flip(episode.chance.choice(sorted(folder.iterdir())), episode)
        case _:
            file = episode.chance.choice(sorted(folder.iterdir()))
            os.truncate(file, file.stat().st_size // 2)
    episode.injected += 1


def _flip(file: Path, episode: Episode) -> None:
    data = bytearray(file.read_bytes())
    data[episode.chance.randrange(len(data))] ^= 1 << episode.chance.randrange(8)
    file.write_bytes(data)


def jumping_clock(episode: Episode) -> str:
    """Every reading of the clock may be a day, or ten years, off."""
    return f"""
import random, time
from velodrome.clock import SystemClock
chance = random.Random({episode.chance.randrange(1000)})
SystemClock.now = staticmethod(lambda: time.time() + chance.choice([0.0, 86400.0, -86400.0, 3e8, -3e8]))
"""


# --- places that come and go


class RestlessShare:
    """Gives and takes the study's slots at random."""

    def __init__(self, seed: int) -> None:
        import random

        self._chance = random.Random(seed)
        self._all: tuple[Slot, ...] = ()
        self._now = Allowance(())

    def adjust(self, held: Sequence[Slot], wanted: int, gpu_peak_bytes: int = 0) -> Allowance:
        chance = self._chance
        if not self._all:
            self._all = tuple(held)
            self._now = Allowance(self._all, look_in_s=0.05)
        elif chance.random() < 0.5:
            slots = tuple(slot for slot in self._all if chance.random() < 0.6)
            leave_s, grace_s = chance.choice([0.0, 0.05]), chance.choice([0.0, 0.05, 5.0])
            self._now = Allowance(slots, "others come and go", leave_s, grace_s, look_in_s=0.05)
        return self._now


def restless(episode: Episode) -> str:
    return _PATH + f"""
from tests.support.faults import RestlessShare
from velodrome.trials import manager
init = manager.Manager.__init__
def shared(self, *args, **kwargs):
    init(self, *args, **{{**kwargs, "share": RestlessShare({episode.chance.randrange(1000)})}})
manager.Manager.__init__ = shared
"""


def count_preempted(episode: Episode) -> None:
    nothing(episode)
    episode.injected += sum(n for (n,) in rows(episode.folder, "select count(*) from events where kind = 'preempted'"))


def count_halved(episode: Episode) -> None:
    nothing(episode)
    episode.injected += sum(
        n for (n,) in rows(episode.folder, "select count(*) from decisions where action = 'halve batch'")
    )


def count_diverged(episode: Episode) -> None:
    nothing(episode)
    sql = "select count(*) from trials where failure_class = 'diverged'"
    episode.injected += sum(n for (n,) in rows(episode.folder, sql))


# --- a cluster


def lose_nodes(episode: Episode, cluster: RayNodes) -> None:
    """Pulls the plug of a node while trials run, and adds another; it may be one that runs none of this study's."""
    for _ in episode.moments(0.1, 1.5):
        if episode.injected < 2 and rows(episode.folder, "select 1 from trials where state = 'running'"):
            cluster.lose(episode.chance)
            episode.injected += 1
            cluster.add()


def node_lost(cluster: RayNodes) -> Fault:
    """The fault that needs a Ray cluster."""
    return Fault(
        "node of a Ray cluster lost", partial(lose_nodes, cluster=cluster), starts=1, pauses_s=(0.1, 0.2),
        args=("--executor", "ray", "--address", cluster.address), leases=False,
    )


FAULTS = (
    Fault("worker killed (kill -9)", kill_workers),
    Fault("controller killed (kill -9)", kill_controller),
    Fault("controller and workers killed", partial(kill_controller, everybody=True)),
    Fault("worker stopped (SIGSTOP)", stop_worker, args=("--hung-after", "1s"), starts=1),
    Fault("out of memory, then half the batch", count_halved, starts=1, args=("--resources", "memory=1GiB"),
          extra="hoard = bytearray(8 << 30) if x < 0.5 and trial.batch_divisor < 4 else None"),
    Fault("NaN", count_diverged, starts=1, args=("--breaker", "0"), failure=lambda x: "diverged" if x < 0.4 else None,
          extra="x = x if x >= 0.4 else float('nan')"),
    Fault("database locked by a stranger", partial(lock, hold_s=(0.1, 0.6))),
    Fault("the same, for longer than velo waits", partial(lock, hold_s=(1.5, 2.0)), impatient),
    Fault("checkpoint damaged, study killed", damage_checkpoints),
    Fault("clock jumps, controller killed", kill_controller, jumping_clock),
    Fault("SIGTERM inside a commit", until_it_ends, in_commit),
    Fault("preempted at random", count_preempted, restless, starts=1, pauses_s=(0.04, 0.08)),
)
"""Those that come at random times, and need no cluster."""

FULL_DISK = Fault("disk full at SQLite's n-th write", until_it_ends, full_disk, pauses_s=(0.005,), trials=2, starts=1)
"""For n from 1 to the last write there is."""

