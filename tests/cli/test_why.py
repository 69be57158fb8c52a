"""The stories that ``velo why`` tells."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from velodrome import advice
from velodrome.types import Failure, FailureClass

PRUNED = """\
trial 2 of digits pruned at accuracy 0.4: rung 1: 0.4 is below the top 1/4 (0.9) of 4
  lr=0.02 optimizer=sgd width=16

what happened
  22:13:22 +0.0 s  attempt 1 started on worker-0 (cpu)
  22:13:23 +1.0 s  lost: the worker was ended from outside by SIGKILL
  22:13:24 +2.0 s  attempt 2 started on worker-1 (cpu)
  22:13:25 +3.0 s  attempt 2 had no end: the study's own process had died
  22:13:25 +3.0 s  attempt 3 started on worker-1 (cpu)
  22:13:26 +4.0 s  told to stop: rung 1: 0.4 is below the top 1/4 (0.9) of 4
  22:13:27 +5.0 s  the objective returned
"""
RAISED = """\
trial 3 of digits failed (user): ValueError: no data
  lr=0.5 optimizer=sgd width=512
  /home/me/digits.py:12    raise ValueError("no data")

  Traceback (most recent call last):
    File "/home/me/digits.py", line 12, in train
      raise ValueError("no data")
  ValueError: no data

what to try
  - mend /home/me/digits.py:12
  - run it in a debugger: put breakpoint() there, then velo sweep digits.py:train --executor inline --trials 1
"""
OOM = """\
trial 4 of digits failed (oom): MemoryError
  lr=0.5 optimizer=sgd width=512
  /home/me/digits.py:9    net = Net(width)

what to try
  - smaller width: it was 512, completed trials had 64 to 128
  - more memory for each trial (--resources memory=8GiB), or fewer at once (--workers)
  - the sampler has taken note: it will look elsewhere
"""
DIVERGED = """\
trial 5 of digits failed (diverged): accuracy is nan (last report: step 3)
  lr=0.5 optimizer=sgd width=512
  accuracy left the finite numbers at step 3; before, at step 2, it was 0.25

what to try
  - lower lr: it was 0.5, completed trials had 0.003 to 0.01
  - clip gradients, or guard logarithms, divisions and square roots against 0
  - the sampler has taken note: it will look elsewhere
"""


@pytest.fixture(autouse=True)
def _here(store):
    """Every test has the store."""


@pytest.mark.parametrize(("number", "story"), [(2, PRUNED), (3, RAISED), (4, OOM), (5, DIVERGED)])
def test_a_trial(velo, number, story):
    result = velo("why", "digits", str(number))
    assert result.exit_code == 0
    assert result.stdout == story
    assert velo("why", f"digits/{number}").stdout == story


def test_of_a_sampler_that_does_not_learn_nothing_is_promised(velo, store):
    with closing(sqlite3.connect(store)) as conn, conn:
        conn.execute("update studies set sampler = 'random'")
    for number in ("4", "5"):
        lines = velo("why", "digits", number).stdout.splitlines()
        assert lines[-1] == "  - this sampler does not learn: --sampler tpe would keep away from there"


def test_a_completed_trial(velo):
    first = velo("why", "digits", "1").stdout.partition("\n")[0]
    assert first == "trial 1 of digits completed with accuracy 0.9731481481481481"


def test_a_study_groups_what_failed_alike(velo):
    result = velo("why", "digits")
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "study digits finished with 7 of 7 trials", "  2 completed, 4 failed, 1 pruned",
        "  stopped by the scheduler: 1 at rung 1",
    ]
    assert lines[3] == "  workers lost: 1; their trials were started again"
    assert [line for line in lines if "failed alike" in line or "trial failed" in line] == [
        "2 trials failed alike (user): ValueError: no data",
        "1 trial failed (oom): MemoryError",
        "1 trial failed (diverged): accuracy is nan (last report: step 3)",
    ]
    assert "  trials 3, 6" in lines
    assert result.stdout.count("Traceback") == 1
    assert result.stderr.splitlines()[0] == "more: velo why digits 3"


def test_a_study_counts_the_places_that_its_trials_gave_away(velo, store):
    with closing(sqlite3.connect(store)) as conn, conn:
        conn.executemany(
            "insert into events (study_id, seq, at, kind, number, data) "
            "select study_id, ?, at, 'preempted', 2, '[\"bob has come\"]' from events where kind = 'lost'",
            [(900,), (901,)],
        )
    assert "  places given away: 2; those trials waited, and went on" in velo("why", "digits").stdout.splitlines()
    assert "gave its place away: bob has come" in velo("why", "digits", "2").stdout


def test_a_study_whose_process_is_gone(velo):
    first = velo("why", "empty").stdout.partition("\n")[0]
    assert first == (
        "study empty died: its process 4194305 is gone without a word, after 0 of 10 trials; velo resume goes on"
    )


def test_stories_as_json(velo):
    story = json.loads(velo("why", "digits", "5", "--json").stdout)
    assert story["divergence"] == {"metric": "accuracy", "step": 3, "last_step": 2, "last_value": 0.25}
    assert story["failure"]["kind"] == "diverged"
    groups = json.loads(velo("why", "digits", "--json").stdout)["groups"]
    assert [(group["count"], group["numbers"]) for group in groups] == [(2, [3, 6]), (1, [4]), (1, [5])]


def test_no_such_trial(velo):
    result = velo("why", "digits", "70")
    assert result.exit_code == 4
    assert "allowed: 0 to 6" in result.stderr


@pytest.mark.parametrize(("kind", "blamed"), [
    (FailureClass.OOM, ["batch_size", "net.hiddenUnits", "numLayers"]),
    (FailureClass.DIVERGED, ["lr", "optimizer.learning_rate"]), (FailureClass.USER, []), (FailureClass.LOST, []),
])
def test_parameters_that_may_be_to_blame(kind, blamed):
    params = {
        "lr": 0.1, "optimizer.learning_rate": 0.2, "dropout_rate": 0.5, "batch_size": 64, "net.hiddenUnits": 8,
        "numLayers": 3, "use_batch_norm": True, "optimizer": "sgd", "color": 3,
    }
    assert advice.suspects(kind, params) == blamed


@pytest.mark.parametrize(("failure", "words"), [
    (Failure(FailureClass.USER, "ModuleNotFoundError: x", "ModuleNotFoundError", "f.py", 3), "install that module"),
    (Failure(FailureClass.USER, "called sys.exit(3)", "SystemExit", "f.py", 3), "raise an exception at f.py:3 instead"),
    (Failure(FailureClass.USER, "crashed its process: a segmentation fault"), "a native library crashed"),
    (Failure(FailureClass.USER, "the objective returned no result"), "mend the objective"),
    (Failure(FailureClass.LOST, "the worker was ended from outside by SIGKILL"), "took its worker down every time"),
])
def test_advice_by_failure(failure, words):
    assert words in next(advice.for_failure(failure, {}, {}, "", learns=True))
