"""Who runs a study, told from a later process with the same id, whatever happens to the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from velodrome.owner import Owner


def test_this_process_is_alive_and_another_with_its_id_is_not_it() -> None:
    owner = Owner.current()
    assert owner.is_here
    assert owner.is_alive
    assert not replace(owner, started_at=owner.started_at - 1.0).is_alive
    assert not replace(owner, pid=2**22 + 1).is_alive


def test_one_on_another_host_counts_as_alive() -> None:
    assert replace(Owner.current(), host="elsewhere", pid=1).is_alive


def test_a_dead_process_is_dead_before_its_parent_has_looked() -> None:
    with subprocess.Popen([sys.executable, "-c", (
        "from velodrome.owner import Owner; o = Owner.current(); print(o.pid, o.started_at, flush=True); input()"
    )], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        pid, started_at = child.stdout.readline().split()
        owner = replace(Owner.current(), pid=int(pid), started_at=float(started_at))
        assert owner.is_alive
        child.kill()
        while owner.is_alive:
            time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the start is by the clock where there is no /proc")
def test_a_clock_that_is_set_makes_no_owner_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner.current()
    before = psutil.Process(os.getpid()).create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: before + 3600.0)
    monkeypatch.setattr(time, "time", lambda: before + 7200.0)
    assert owner.is_alive
    assert abs(Owner.current().started_at - owner.started_at) < 1e-9
