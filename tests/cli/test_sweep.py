"""``sweep``, ``resume`` and ``stop``, as a person runs them: real processes, small objectives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from velodrome.cli.stop import end
from velodrome.errors import StudyBusyError
from velodrome.owner import Owner

BOWL = """\
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(-1, 1), y=velo.Int(0, 3)), goal="minimize loss")
def train(trial):
    print("x is", trial.params["x"])
    for step in range(3):
        trial.report(step, loss=trial.params["x"] ** 2 + step)
    return trial.params["x"] ** 2 + trial.params["y"]

@velo.objective(velo.Space(x=velo.Float(-1, 1)), goal="minimize a, minimize b")
def two(trial):
    return {"a": trial.params["x"], "b": -trial.params["x"]}
"""
BROKEN = """\
import velodrome as velo

@velo.objective(velo.Space(lr=velo.Float(0, 1)))
def train(trial):
    raise ValueError("no data")
"""
PATIENT = """\
import pathlib, time
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(-1, 1)), goal="minimize loss")
def train(trial):
    if trial.number < 2 or pathlib.Path("go").exists():
        return trial.params["x"]
    pathlib.Path("waiting").touch()
    while True:
        time.sleep(0.01)
"""
FIRST_LINE = "bowl: 8 of 8 trials in "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in (("bowl", BOWL), ("broken", BROKEN), ("patient", PATIENT)):
        (tmp_path / f"{name}.py").write_text(code)
    (tmp_path / "syntax.py").write_text("def train(:\n")
    (tmp_path / "imports.py").write_text("import no_such_module_anywhere\n")
    (tmp_path / "none.py").write_text("x = 1\n")
    return tmp_path


def velo_process(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "velodrome", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_sweep_from_beginning_to_end(folder, executor):
    args = ["bowl.py:train", "--trials", "8", "--sampler", "random", "--seed", "3", "--executor", executor]
    result = velo_process("sweep", *args, cwd=folder)
    assert result.returncode == 0, result.stderr
    number, value, *params = result.stdout.split()
    assert len(result.stdout.splitlines()) == 1
    assert [name.partition("=")[0] for name in params] == ["x", "y"]
    lines = result.stderr[result.stderr.index(FIRST_LINE):].splitlines()
    assert lines[0].endswith("s: 8 completed")
    assert lines[1].startswith(f"best: trial {number}, loss ")
    assert [line.strip().partition("  ")[0] for line in lines[2:]] == [
        "velo best bowl", 'velo query "select * from leaderboard limit 10"',
    ]

    best = json.loads(velo_process("best", "bowl", "--json", cwd=folder).stdout)
    assert (best["number"], best["value"]) == (int(number), float(value))
    assert velo_process("ls", cwd=folder).stdout.splitlines()[1].split()[:3] == ["bowl", "finished", "8/8"]
    assert "8 completed" in velo_process("show", "bowl", cwd=folder).stdout
    story = velo_process("why", "bowl", "0", cwd=folder).stdout
    assert "attempt 1 started on" in story
    assert "the objective returned" in story
    counted = velo_process("query", "select count(*) as n from study_bowl where y >= 0", "--csv", cwd=folder)
    assert counted.stdout == "n\n8\n"
    printed = velo_process("logs", "bowl", "0", cwd=folder)
    if executor == "process":
        assert printed.stdout.startswith("x is ")
    else:
        assert printed.stdout == ""
        assert result.stderr.count("x is ") == 8


def test_the_result_as_json(folder):
    result = velo_process("sweep", "bowl.py:two", "--trials", "3", "--executor", "inline", "--json", "-q", cwd=folder)
    data = json.loads(result.stdout)
    assert (data["study"], data["state"], data["counts"]) == ("bowl", "finished", {"completed": 3})
    assert [trial["number"] for trial in data["best"]] == [0, 1, 2]  # the goals are opposed: nobody beats anybody
    assert "3 trials that no other beats" in result.stderr
    front = velo_process("best", "bowl", cwd=folder).stdout.splitlines()
    assert front[0].split() == ["trial", "a", "b", "x"]
    assert len(front) == 4
    assert len(json.loads(velo_process("best", "bowl", "--json", cwd=folder).stdout)["front"]) == 3


def test_a_finished_study_goes_on_only_for_more_trials(velo, folder):
    assert velo("sweep", "bowl.py:train", "--trials", "2", "--executor", "inline", "-q").exit_code == 0
    result = velo("resume", "bowl")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[:2] == [
        "bowl is finished; for more trials: velo resume bowl --trials 4", "bowl: 2 of 2 trials: 2 completed",
    ]
    assert velo("resume", "bowl", "--trials", "0").exit_code == 2
    result = velo("resume", "bowl", "--trials", "5", "-q")
    assert result.exit_code == 0
    assert "bowl: 5 of 5 trials in " in result.stderr


def test_a_study_stopped_by_its_failures_shows_the_traceback_once(velo, folder):
    result = velo("sweep", "broken.py", "--executor", "inline", "-q", "--store", "my.db")
    assert result.exit_code == 6
    assert result.stdout == ""
    assert result.stderr.count("Traceback (most recent call last)") == 1
    assert result.stderr.count('raise ValueError("no data")') == 1
    assert "velodrome/" not in result.stderr
    assert "error: Study 'broken' was stopped: the first 5 trials all failed in the same way: ValueError: no data." in (
        result.stderr
    )
    assert result.stderr.endswith("  note: with --store my.db, as here\n")


def test_a_sweep_without_one_completed_trial_fails(velo, folder):
    result = velo("sweep", "broken.py", "--trials", "3", "--breaker", "0", "--executor", "inline", "-q")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no trial has completed" in result.stderr
    assert "velo why broken  why 3 failed" in result.stderr


@pytest.mark.parametrize(("args", "code", "words"), [
    (["missing.py"], 2, "does not exist"),
    (["syntax.py"], 2, "SyntaxError"),
    (["imports.py"], 2, "No module named 'no_such_module_anywhere'"),
    (["none.py"], 2, "No function looks like an objective"),
    (["bowl.py:trian"], 2, "Did you mean 'train'?"),
    (["bowl.py:train", "--sampler", "tpee"], 2, "Did you mean 'tpe'?"),
    (["bowl.py:train", "--scheduler", "ahsa"], 2, "Did you mean 'asha'?"),
    (["bowl.py:train", "--executor", "proces"], 2, "Did you mean 'process'?"),
    (["bowl.py:train", "--goal", "up"], 2, "A goal is not understood"),
    (["bowl.py:train", "--trials", "0"], 2, "A sweep needs trials"),
    (["ppo"], 2, "velo sweep ppo --env CartPole-v1"),
    (["bowl.py:train", "--workers", "0"], 2, "workers"),
    (["bowl.py:train", "--timeout", "5x"], 2, "A time is not understood"),
    (["bowl.py:train", "--name", "a b"], 2, "A study's name does not do"),
    (["bowl.py:train", "--resources", "gpus=1"], 2, "Did you mean 'gpu'?"),
    (["bowl.py:train", "--trails", "3"], 2, "Did you mean '--trials'?"),
    (["bowl.py:train", "--store", "/proc/none/x.db"], 3, "/proc/none"),
])
def test_mistakes_are_answered_and_not_traced(velo, folder, args, code, words):
    result = velo("sweep", "--executor", "inline", *args)
    assert result.exit_code == code
    assert result.stdout == ""
    assert words in result.stderr
    assert "error: " in result.stderr
    assert "velodrome/" not in result.stderr


def test_a_name_that_is_taken(velo, folder):
    assert velo("sweep", "bowl.py:train", "--trials", "1", "--executor", "inline", "--name", "b").exit_code == 0
    result = velo("sweep", "bowl.py:train", "--trials", "1", "--executor", "inline", "--name", "b")
    assert result.exit_code == 2
    assert "velo resume b" in result.stderr


def started(folder: Path) -> subprocess.Popen[str]:
    """A sweep with two finished trials and a third that waits for ever."""
    command = [sys.executable, "-m", "velodrome", "sweep", "patient.py", "--trials", "4", "--workers", "1", "-q"]
    sweep = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (folder / "waiting").exists():
        assert sweep.poll() is None, sweep.communicate()
        psutil.wait_procs([psutil.Process(sweep.pid)], timeout=0.05)
    return sweep


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_sweep_in_order_and_resume_goes_on(folder, signum, code):
    sweep = started(folder)
    sweep.send_signal(signum)
    stdout, stderr = sweep.communicate(timeout=30)
    assert sweep.returncode == code
    assert stdout == ""
    assert stderr.strip() == "interrupted; everything is saved. Go on with: velo resume patient"
    (folder / "go").touch()
    result = velo_process("resume", "patient", "-q", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "patient: 4 of 4 trials in " in result.stderr


def test_stop_ends_a_sweep_and_waits_for_it(folder):
    sweep = started(folder)
    assert velo_process("ls", cwd=folder).stdout.splitlines()[1].split()[:2] == ["patient", "running"]
    result = velo_process("stop", "patient", cwd=folder)
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == "patient is stopped after 2 of 4 trials; go on with: velo resume patient\n"
    sweep.communicate(timeout=30)
    assert sweep.returncode == 143
    result = velo_process("stop", "patient", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "patient is not running: it is stopped (interrupted by SIGTERM)\n")


def test_stop_of_a_study_whose_process_is_gone(velo, store):
    result = velo("stop", "empty")
    assert result.exit_code == 0
    assert result.stderr == "empty is not running: its process 4194305 is gone; go on with: velo resume empty\n"


def test_stop_reaches_no_other_host():
    with pytest.raises(StudyBusyError, match="on elsewhere: velo stop digits"):
        end(Owner("elsewhere", os.getpid(), 0.0), "digits", 1.0)


def test_stop_gives_up_on_a_process_that_does_not_end():
    code = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        owner = Owner.of(stubborn.pid)
        waits: list[float] = []
        with pytest.raises(StudyBusyError, match="still runs after"):
            end(owner, "digits", 0.5, waits.append)
        assert sum(waits) == pytest.approx(0.5)
        stubborn.kill()
