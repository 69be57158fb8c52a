"""What ``ls``, ``show``, ``best`` and ``query`` print into a pipe, word for word."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from velodrome.cli.query import distinct
from velodrome.cli.studies import age, seconds

SHOW_STUDY = """\
study      digits
state      finished
trials     7 asked for; 2 completed, 4 failed, 1 pruned
goal       maximize accuracy
sampler    tpe
scheduler  asha
seed       7
objective  digits.py:train
created    2023-11-14 22:13:20 +0000
options    executor=process workers=2

space
parameter        domain                        where
lr               Float(0.0001, 1.0, log=True)
width            Int(16, 512, log=True)
optimizer        Choice('adam', 'sgd')
optimizer.beta1  Float(0.8, 0.99)              optimizer is 'adam'

best trials
trial  accuracy     lr  optimizer  optimizer.beta1  width
    1  0.973148  0.003  adam                   0.9    128
"""
SHOW_TRIAL = """\
study     digits
trial     2
state     pruned
reason    rung 1: 0.4 is below the top 1/4 (0.9) of 4
attempt   1
worker    worker-0
device    cpu
seed      102
created   2023-11-14 22:13:22 +0000
started   2023-11-14 22:13:23 +0000
finished  2023-11-14 22:13:25 +0000
duration  2.5 s

parameters
  lr         0.02
  optimizer  'sgd'
  width      16

metrics
  accuracy  0.4

decisions
by         action  reason
scheduler  stop    rung 1: 0.4 is below the top 1/4 (0.9) of 4
"""
BEST = """\
study     digits
trial     1
accuracy  0.9731481481481481
goal      maximize accuracy

parameters
  lr               0.003
  optimizer        'adam'
  optimizer.beta1  0.9
  width            128
"""
BY_WIDTH = "select width, lr, failure_class from study_digits where number in (1, 4) order by number"


@pytest.fixture(autouse=True)
def _here(store):
    """Every test has the store."""


def test_ls(velo):
    result = velo("ls")
    assert result.exit_code == 0
    assert re.sub(r"\d+ d$", "N d", result.stdout, flags=re.MULTILINE) == (
        "study   state     trials      best  goal               age\n"
        "empty   died      0/10              minimize loss      N d\n"
        "digits  finished  7/7     0.973148  maximize accuracy  N d\n"
    )


def test_ls_as_json(velo):
    newest, oldest = json.loads(velo("ls", "--json").stdout)
    assert (newest["name"], newest["state"], newest["best"]) == ("empty", "died", None)
    assert oldest == {
        "name": "digits", "state": "finished", "finished": 7, "target": 7, "best": 0.9731481481481481,
        "goal": "maximize accuracy", "created_at": 1.7e9, "note": "",
        "counts": {"completed": 2, "failed": 4, "pruned": 1},
    }


def test_show_a_study(velo):
    assert velo("show", "digits", "--top", "1").stdout == SHOW_STUDY


def test_show_a_study_as_json(velo):
    data = json.loads(velo("show", "digits", "--json").stdout)
    assert data["config"]["workers"] == 2
    assert [trial["number"] for trial in data["top"]] == [1, 0]
    assert set(data["space"]["params"]) == {"lr", "width", "optimizer"}


def test_show_a_study_that_has_nothing_yet(velo):
    result = velo("show", "empty")
    assert result.exit_code == 0
    assert "state      died" in result.stdout
    assert "trials     10 asked for; none yet" in result.stdout


def test_show_a_trial(velo):
    assert velo("show", "digits", "2").stdout == SHOW_TRIAL
    assert velo("show", "digits/2").stdout == SHOW_TRIAL


def test_show_the_reports_of_a_trial(velo):
    assert velo("show", "digits", "5").stdout.endswith(
        "reports\nname      reports  lowest  highest  last_step  last\naccuracy        3     0.1     0.25          3\n"
    )
    report = json.loads(velo("show", "digits", "5", "--json").stdout)["reports"][0]
    assert report == {"name": "accuracy", "reports": 3, "lowest": 0.1, "highest": 0.25, "last_step": 3, "last": None}


def test_best(velo):
    assert velo("best", "digits").stdout == BEST
    data = json.loads(velo("best", "digits", "--json").stdout)
    assert (data["number"], data["value"], data["params"]["width"]) == (1, 0.9731481481481481, 128)


@pytest.mark.parametrize(("args", "code", "words"), [
    (["best", "empty"], 4, "Study 'empty' has no completed trial yet"),
    (["show", "digitz"], 4, "Did you mean 'digits'?"),
    (["show", "digits", "99"], 4, "0 to 6"),
    (["show", "digits", "-3x"], 2, "No such option"),
    (["query", "select * from leaderbord"], 2, "Did you mean 'leaderboard'?"),
    (["query", "delete from trials"], 2, "A query can only read"),
    (["query", "select 1; select 2"], 2, "more than one statement"),
    (["query", "select 1", "--csv", "--json"], 2, "Two forms are asked for"),
])
def test_mistakes(velo, args, code, words):
    result = velo(*args)
    assert result.exit_code == code
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_query_as_a_table(velo):
    assert velo("query", BY_WIDTH).stdout == "width     lr  failure_class\n  128  0.003\n  512    0.5  oom\n"


def test_query_as_csv(velo):
    text = velo("query", BY_WIDTH, "--csv").stdout
    assert text == "width,lr,failure_class\n128,0.003,\n512,0.5,oom\n"
    quoted = velo("query", "select 'a,b' as \"x\"\"y\", x'00ff' as blob", "--csv").stdout
    assert list(csv.reader(io.StringIO(quoted))) == [['x"y', "blob"], ["a,b", "x'00ff'"]]


def test_query_as_json(velo):
    result = velo("query", BY_WIDTH, "--json")
    assert result.stdout == (
        '[\n {"width": 128, "lr": 0.003, "failure_class": null},\n'
        ' {"width": 512, "lr": 0.5, "failure_class": "oom"}\n]\n'
    )
    assert velo("query", "select 1 where 0", "--json").stdout == "[]\n"
    assert json.loads(velo("query", "select 1 as a, 2 as a, 1e999 as b", "--json").stdout) == [
        {"a": 1, "a_2": 2, "b": float("inf")}
    ]


def test_query_from_stdin_and_with_a_limit(velo):
    result = velo("query", "-", "--limit", "2", "--csv", stdin="select number from trials order by number")
    assert result.stdout == "number\n0\n1\n"


def test_long_csv_comes_whole(velo):
    sql = "with recursive c(x) as (select 1 union all select x + 1 from c limit 60000) select x, x * x from c"
    lines = velo("query", sql, "--csv").stdout.splitlines()
    assert len(lines) == 60_001
    assert lines[-1] == "60000,3600000000"


def test_equal_columns_get_numbers():
    assert distinct(["a", "b", "a", "a", "a_2"]) == ["a", "b", "a_2", "a_3", "a_2_2"]


@pytest.mark.parametrize(("ago_s", "text"), [
    (-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d"),
])
def test_ages(ago_s, text):
    assert age(ago_s) == text


@pytest.mark.parametrize(("value_s", "text"), [(0.21349, "0.213 s"), (12.54, "12.5 s"), (200, "3 min 20 s")])
def test_durations(value_s, text):
    assert seconds(value_s) == text
