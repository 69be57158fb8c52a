"""``velo resources``, and sweeps that share a machine, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Velo
from velodrome.resources.demand import Demand
from velodrome.resources.inventory import Inventory
from velodrome.resources.ledger import Ledger
from velodrome.resources.ledger_place import find
from velodrome.resources.state import Priority

CORES = Inventory.detect().cpus
VIEW = {"cores": CORES * 1000, "memory": Inventory.detect().memory_bytes}


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    place = find()
    assert place is not None
    place.settings.write_text("[tenants.ann]\nweight = 3\nguarantee = 0.25\n")
    opened = Ledger(place)
    yield opened
    opened.close()


def test_an_empty_machine(velo: Velo) -> None:
    done = velo("resources")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["resource", "free", "held", "total"]
    assert lines[1].split() == ["cores", str(CORES), "0", str(CORES)]
    assert "no study runs here" in done.stderr


def test_who_holds_what_and_who_waits(velo: Velo, ledger: Ledger) -> None:
    ledger.join("ann", "digits", Priority.NORMAL, Demand(), VIEW, CORES)
    ledger.join("bob", "walk", Priority.OPPORTUNISTIC, Demand(), VIEW, 1)
    done = velo("resources")
    assert done.exit_code == 0, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["cores", "0", str(CORES), str(CORES)] in words
    digits = next(line for line in words if "digits" in line)
    assert digits[:6] == ["ann", "digits", "normal", str(CORES), "of", str(CORES)]
    assert digits[-1] == str(os.getpid())
    assert f"bob/walk: first in the queue: too little of cores is free; ann/digits holds {CORES}" in done.stdout
    tenant = next(line for line in words if line[:2] == ["ann", "3"])
    assert tenant[2:6] == ["25%", "100%", "100%", "75%"]


def test_as_json(velo: Velo, ledger: Ledger) -> None:
    ledger.join("ann", "digits", Priority.NORMAL, Demand(), VIEW, 1)
    found = json.loads(velo("resources", "--json").stdout)
    assert found["devices"][0] == {"name": "cores", "total": CORES * 1000, "held": 1000, "unit": "millis"}
    (study,) = found["studies"]
    assert (study["tenant"], study["slots"], study["wanted"], study["waiting"]) == ("ann", 1, 1, None)
    assert found["tenants"][0]["guarantee"] == 0.25
    assert found["rules"]["grace_s"] == 60


def test_without_a_ledger(velo: Velo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VELODROME_LEDGER", "off")
    done = velo("resources")
    assert done.exit_code == 0
    assert "sharing is off" in done.stderr


def test_a_damaged_ledger_says_what_to_do(velo: Velo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VELODROME_LEDGER", str(tmp_path / "bad.db"))
    (tmp_path / "bad.db").write_text("no database" * 1000)
    done = velo("resources")
    assert done.exit_code == 3
    assert "damaged" in done.stderr
    assert "delete it" in done.stderr


def test_bad_settings_are_an_error_of_use(velo: Velo, ledger: Ledger) -> None:
    ledger.place.settings.write_text("[tenants.ann]\nwait = 3\n")
    done = velo("resources")
    assert done.exit_code == 2
    assert "Did you mean 'weight'?" in done.stderr


# --- sweeps

OBJECTIVE = """
import time
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0, 1)), goal="minimize loss")
def train(trial):
    time.sleep({seconds})
    return trial.params["x"]
"""


def sweep(folder: Path, name: str, trials: int, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "velodrome", "sweep", "objective.py", "--trials", str(trials), "--name", name,
               "--sampler", "random", "--store", f"{name}.db", *args]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def resources() -> dict[str, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "velodrome", "resources", "--json"], capture_output=True, text=True, check=True
    )
    return {study["study"]: study for study in json.loads(done.stdout)["studies"]}


def test_a_sweep_waits_for_its_place_says_so_and_gets_it(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "objective.py").write_text(OBJECTIVE.format(seconds=0.01))
    me, _ = ledger.join("ann", "digits", Priority.NORMAL, Demand(), VIEW, CORES)
    process = sweep(tmp_path, "late", 5, "--workers", "1")
    deadline = time.monotonic() + 60
    while "late" not in "".join(resources()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert resources()["late"]["slots"] == 0
    assert process.poll() is None
    ledger.leave(me)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "waiting for a place on this machine: first in the queue" in errors
    assert "ann/digits holds" in errors
    assert resources() == {}


def test_a_sweep_that_is_killed_leaves_no_lease(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "objective.py").write_text(OBJECTIVE.format(seconds=60))
    process = sweep(tmp_path, "killed", 5, "--workers", "1")
    deadline = time.monotonic() + 60
    while not resources() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert resources() == {}
    _, held = ledger.join("ann", "next", Priority.NORMAL, Demand(), VIEW, CORES)
    assert len(held.leases) == CORES


NESTED = """
import velodrome as velo

def inner(trial):
    return trial.params["x"] ** 2

@velo.objective(velo.Space(depth=velo.Int(1, 3)), goal="minimize loss")
def train(trial):
    study = velo.sweep(inner, velo.Space(x=velo.Float(0, 1)), trials=3, sampler="random", workers=1, progress=False,
                       store=f"inner-{trial.number}.db")
    return study.best.value
"""


def test_a_sweep_inside_a_trial_lives_on_the_trials_lease(tmp_path: Path) -> None:
    (tmp_path / "objective.py").write_text(NESTED)
    process = sweep(tmp_path, "outer", 2)  # all of the machine is held by the outer study's workers
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert sorted(path.name for path in tmp_path.glob("inner-?.db")) == ["inner-0.db", "inner-1.db"]
