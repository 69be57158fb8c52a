"""The process that ends what a killed controller's Ray leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.campaign import wait_for
from velodrome.trials.ray_reaper import MARK, Reaper

SLEEP = "import sys, time; {}; print('up', flush=True); time.sleep(600)"


def sleeper(first: str = "pass", mark: str = "") -> subprocess.Popen[bytes]:
    environ = {**os.environ, MARK: mark} if mark else dict(os.environ)
    process = subprocess.Popen([sys.executable, "-c", SLEEP.format(first)], env=environ, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def test_what_belongs_to_the_folder_is_ended_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    folder.mkdir()
    marked, holding = sleeper(mark=str(folder)), sleeper(f"f = open({str(folder / 'log')!r}, 'w')")
    other, neighbour = sleeper(), sleeper(mark=f"{folder}-2")
    try:
        Reaper(folder).close()
        assert marked.wait(5) == holding.wait(5) == -9
        assert other.poll() is neighbour.poll() is None
        assert not folder.exists()
    finally:
        for process in (other, neighbour):
            process.kill()
            process.wait()


def test_it_acts_when_its_controller_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    folder.mkdir()
    code = (
        "import os, pathlib, sys; from velodrome.trials.ray_reaper import Reaper\n"
        "reaper = Reaper(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    marked = sleeper(mark=str(folder))
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == -9
    assert marked.wait(10) == -9
    wait_for(lambda: not folder.exists())


def test_closing_it_spares_the_controller(tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    folder.mkdir()
    with (folder / "driver.log").open("w"):  # as Ray does in the controller itself
        Reaper(folder).close()
    assert not folder.exists()
