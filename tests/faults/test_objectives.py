"""Objectives that misbehave: each ends in its failure class, and ``velo why`` shows the line of the user's code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.campaign import finished, rows, velo, write_objective

HEAD = '''
import ctypes, os, sys, time
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize value")
def train(trial):
    trial.report(0, value=1.0)
    if trial.number != 1:
        return trial.params["x"]
'''

BAD = {
    "raises": ("user", "    raise ValueError('my mistake')", "raise ValueError('my mistake')", "my mistake"),
    "nan": ("diverged", "    return float('nan')", "", "value is nan"),
    "infinite": ("diverged", "    return float('inf')", "", "value is inf"),
    "string": ("user", "    return 'good'", "", "'good'"),
    "exits": ("user", "    sys.exit(3)", "sys.exit(3)", "3"),
    "exits_hard": ("user", "    os._exit(9)", "", "9"),
    "segfault": ("user", "    ctypes.string_at(0)", "ctypes.string_at(0)", "SIGSEGV"),
    "memory": ("oom", "    data = bytearray(8 << 30)", "data = bytearray(8 << 30)", ""),
    "creeping_memory": (
        "oom", "    hoard = []\n    while True:\n        hoard.append(bytearray(64 << 20))",
        "hoard.append(bytearray(64 << 20))", "",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_trial_gets_its_class_and_why_shows_the_line(tmp_path: Path, kind: str) -> None:
    failure_class, body, line, message = BAD[kind]
    objective = write_objective(tmp_path, HEAD + body + "\n")
    code, _, err = velo(
        tmp_path, "sweep", str(objective), "--trials", "3", "--workers", "1", "--name", "s",
        "--resources", "memory=2GiB",
    )
    assert code == 0, err
    assert "Traceback" not in err
    assert {n: state for n, (state, *_) in finished(tmp_path).items()} == {0: "completed", 1: "failed", 2: "completed"}
    [(found, failure)] = rows(tmp_path, "select failure_class, failure from trials where number = 1")
    assert found == failure_class
    assert message in json.loads(failure)["message"]
    code, why, err = velo(tmp_path, "why", "s", "1")
    assert code == 0, err
    assert failure_class in why
    if line:
        number = 1 + (HEAD + body).splitlines().index(next(x for x in (HEAD + body).splitlines() if line in x))
        assert line in why
        assert f"train.py:{number}" in why


def test_an_objective_that_forks_counts_once(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, '''
import os
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize value")
def train(trial):
    pid = os.fork()
    trial.report(0, value=trial.params["x"])
    if pid:
        os.waitpid(pid, 0)
    return trial.params["x"]
''')
    code, _, err = velo(tmp_path, "sweep", str(objective), "--trials", "6", "--workers", "2", "--name", "s")
    assert code == 0, err
    assert sorted(finished(tmp_path)) == list(range(6))
    assert rows(tmp_path, "select count(*) from metrics") == [(6,)]
    assert rows(tmp_path, "select count(*) from events where kind = 'returned'") == [(6,)]


def test_an_objective_that_prints_a_hundred_megabytes_completes_and_its_log_stays_small(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, '''
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize value")
def train(trial):
    if trial.number == 1:
        print("first line")
        for _ in range(100):
            print("x" * (1 << 20))
        print("last line")
    return trial.params["x"]
''')
    code, _, err = velo(tmp_path, "sweep", str(objective), "--trials", "3", "--workers", "1", "--name", "s")
    assert code == 0, err
    assert [state for state, *_ in finished(tmp_path).values()] == ["completed"] * 3
    kept = sum(path.stat().st_size for path in (tmp_path / "velodrome.logs").rglob("*") if path.is_file())
    assert kept < 12 << 20
    code, out, err = velo(tmp_path, "logs", "s", "1")
    assert code == 0, err
    assert out.startswith("first line")
    assert out.rstrip().endswith("last line")


def test_a_study_whose_first_five_trials_fail_alike_stops_and_says_so_once(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, '''
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize value")
def train(trial):
    raise KeyError("no such column")
''')
    code, _, err = velo(tmp_path, "sweep", str(objective), "--trials", "100", "--workers", "2", "--name", "s")
    assert code == 6
    assert err.count("no such column") <= 3
    assert err.count('raise KeyError("no such column")') == 1, "the user's own traceback, once"
    assert "velodrome/" not in err.replace(str(tmp_path), "")
    assert rows(tmp_path, "select state from studies") == [("failed",)]
    assert 5 <= len(finished(tmp_path)) < 30


@pytest.mark.parametrize(("text", "expected"), [
    ("def train(trial:\n", "SyntaxError"),
    ("import nosuchmodule\n", "nosuchmodule"),
    ("x = 1\n", "objective"),
    ("1 / 0\n", "ZeroDivisionError"),
])
def test_a_file_that_can_not_be_loaded_is_a_clear_error(tmp_path: Path, text: str, expected: str) -> None:
    objective = write_objective(tmp_path, text)
    code, out, err = velo(tmp_path, "sweep", str(objective), "--trials", "3")
    assert code == 2
    assert out == ""
    assert expected in err
    assert "importlib" not in err
    assert rows(tmp_path, "select 1 from studies") == []


def test_a_trial_that_can_goes_on_with_half_the_batch_when_memory_runs_out(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, '''
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize value", on_oom="halve")
def train(trial):
    start = (trial.restore() or 0) + 1
    for step in range(start, 4):
        for share, part in trial.micro_batches(range(8)):
            hoard = None
            if trial.number == 1 and step > 1:
                hoard = bytearray(len(part) << 27)
        trial.report(step, value=trial.params["x"])
        trial.checkpoint(step, step)
    return {"value": trial.params["x"], "divisor": trial.batch_divisor, "start": start}
''')
    code, _, err = velo(
        tmp_path, "sweep", str(objective), "--trials", "3", "--workers", "1", "--name", "s",
        "--resources", "memory=400MiB", "-q",
    )
    assert code == 0, err
    trials = [json.loads(metrics) for (metrics,) in rows(tmp_path, "select metrics from trials order by number")]
    assert [(t["divisor"], t["start"]) for t in trials] == [(1, 1), (4, 2), (1, 1)], "it went on from its checkpoint"
    assert [state for state, *_ in finished(tmp_path).values()] == ["completed"] * 3
    halved = rows(tmp_path, "select reason from decisions where action = 'halve batch' order by seq")
    assert [reason.split(",")[0] for (reason,) in halved] == [f"its batches are cut into {n}" for n in (2, 4)]


def test_a_worker_that_is_stopped_is_found_by_the_limit_and_its_trial_started_again(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, '''
import os, signal, velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize value")
def train(trial):
    if trial.number == 1 and trial.attempt == 1 or trial.number == 2:
        os.kill(os.getpid(), signal.SIGSTOP)
    return trial.params["x"]
''')
    args = ("--trials", "4", "--workers", "2", "--name", "s", "--hung-after", "0.5s", "--retries", "3", "-q")
    code, _, err = velo(tmp_path, "sweep", str(objective), *args)
    assert code == 0, err
    assert rows(tmp_path, "select number, state, failure_class, attempt from trials where number in (1, 2)") == [
        (1, "completed", "hung", 2), (2, "failed", "hung", 3)
    ]
    code, why, err = velo(tmp_path, "why", "s", "2")
    assert code == 0, err
    assert "the limit is 0.5 s, as given" in why
    assert "--hung-after" in why
