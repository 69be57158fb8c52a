from __future__ import annotations

import json
import math

import pytest

from velodrome.records import MetricRow, trial_id
from velodrome.types import Failure, FailureClass


def _ask(reader, sql, parameters=()):
    columns, rows = reader.query(sql, parameters)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_the_leaderboard_has_each_study_best_first_and_completed_before_pruned(
    writer, reader, study_id, study_row, trial_row
):
    other = writer.create_study(study_row("other"))
    rows = [
        trial_row(study_id, 0, 0.3, score=-0.3), trial_row(study_id, 1, 0.9, score=-0.9),
        trial_row(study_id, 2, 1.0, score=-1.0, state="pruned"), trial_row(study_id, 3, math.nan, score=None),
        trial_row(study_id, 4, None, state="failed"), trial_row(study_id, 5, None, state="running"),
        trial_row(study_id, 6, math.inf, score=-math.inf), trial_row(other, 0, 0.1),
    ]
    for row in rows:
        writer.trial(row)
    writer.commit(durable=False)
    found = _ask(reader, "select study, number, state, value, duration_s from leaderboard")
    assert [(r["study"], r["number"], r["state"]) for r in found] == [
        ("digits", 6, "completed"), ("digits", 1, "completed"), ("digits", 0, "completed"), ("digits", 2, "pruned"),
        ("other", 0, "completed"),
    ]
    assert {r["duration_s"] for r in found} == {3.0}
    assert [row.number for row in reader.best(study_id, 2)] == [6, 1]


def test_the_leaderboards_parameters_are_json(writer, reader, study_id, trial_row):
    params = {"act": 'say "hi"', "bias": True, "deep": False, "lr": 0.1, "none": None, "width": 8}
    writer.trial(trial_row(study_id, 0, metrics='{"loss":0.5,"far":1e999,"odd":null}'))
    writer.trial(trial_row(study_id, 1, 0.6))
    writer.params(trial_id(study_id, 0), params)
    writer.commit(durable=False)
    first, second = _ask(reader, "select * from leaderboard")
    assert json.loads(first["params"]) == params
    assert json.loads(first["metrics"]) == {"loss": 0.5, "far": math.inf, "odd": None}
    assert second["params"] == "{}"
    assert _ask(reader, "select json_extract(params, '$.lr') as lr from leaderboard limit 1") == [{"lr": 0.1}]


def test_the_first_rows_of_the_leaderboard_need_no_sorting(reader):
    for question in ("select * from leaderboard limit 10", "select * from leaderboard where study = 'x' limit 10"):
        plan = " ".join(str(row) for row in reader.query(f"explain query plan {question}")[1])
        assert "trials_best" in plan
        assert "TEMP B-TREE" not in plan


def test_final_metrics_reports_and_failures(writer, reader, study_id, trial_row):
    failure = Failure(FailureClass.USER, "division by zero", "ZeroDivisionError", "f.py", 7, "1 / 0", "...")
    writer.trial(trial_row(study_id, 0, metrics='{"acc":0.5,"loss":null}'))
    writer.trial(trial_row(
        study_id, 1, None, state="failed", failure_class="user", failure=json.dumps(failure.to_json())
    ))
    writer.metrics([MetricRow(trial_id(study_id, 0), "acc", 3, 0.25, 9, 2.0)])
    writer.commit(durable=False)
    assert _ask(reader, "select number, name, value from final_metrics where study = 'digits'") == [
        {"number": 0, "name": "acc", "value": 0.5}, {"number": 0, "name": "loss", "value": None},
    ]
    assert _ask(reader, "select study, number, step, name, value, at from reports") == [
        {"study": "digits", "number": 0, "step": 3, "name": "acc", "value": 0.25, "at": 2.0}
    ]
    assert _ask(reader, "select number, failure_class, message, exception, file, line from failures") == [
        {"number": 1, "failure_class": "user", "message": "division by zero", "exception": "ZeroDivisionError",
         "file": "f.py", "line": 7}
    ]


def test_the_wide_view_has_a_column_per_parameter_and_final_metric(writer, reader, study_id, study_row, trial_row):
    other = writer.create_study(study_row("other"))
    writer.trial(trial_row(study_id, 0, metrics='{"acc":0.5}'))
    writer.trial(trial_row(study_id, 1, None, state="running"))
    writer.trial(trial_row(other, 0))
    writer.params(trial_id(study_id, 0), {"lr": 0.1, "optimizer": "sgd", "optimizer.momentum": 0.9})
    writer.params(trial_id(other, 0), {"not_ours": 1})
    writer.commit(durable=False)
    writer.refresh_study_view(study_id, params=["optimizer.beta", "lr"], metrics=["loss"])
    columns, rows = reader.query("select * from study_digits")
    assert columns == [
        "number", "state", "value", "lr", "optimizer", "optimizer.beta", "optimizer.momentum", "acc", "loss",
        "duration_s", "started_at", "finished_at", "attempt", "seed", "worker", "device", "failure_class", "reason",
        "trial_id",
    ]
    assert [row[:9] for row in rows] == [
        (0, "completed", 0.5, 0.1, "sgd", None, 0.9, 0.5, None), (1, "running") + (None,) * 7
    ]


def test_the_wide_view_follows_new_names_and_is_left_alone_otherwise(writer, reader, study_id, trial_row):
    writer.refresh_study_view(study_id)
    assert "lr" not in reader.query("select * from study_digits")[0]
    ((version,),) = writer._conn.execute("PRAGMA schema_version")
    writer.refresh_study_view(study_id)
    assert list(writer._conn.execute("PRAGMA schema_version")) == [(version,)], "no other connection has to look again"
    writer.params(trial_id(study_id, 0), {"lr": 0.1})
    writer.commit(durable=False)
    writer.refresh_study_view(study_id)
    assert "lr" in reader.query("select * from study_digits")[0]


def test_clashing_names_are_resolved_in_the_same_way_every_time(writer, reader, study_id, trial_row):
    metrics = {"LR": 1.0, "number": 2.0, "acc": 3.0}
    writer.trial(trial_row(study_id, 0, metrics=json.dumps(metrics)))
    writer.params(trial_id(study_id, 0), {"LR": "a", "Lr": "b", "lr": "c", "seed": "d", "param_lr": "e"})
    writer.commit(durable=False)
    writer.refresh_study_view(study_id)
    (row,) = _ask(reader, "select * from study_digits")
    wanted = {
        "number": 0, "LR": "a", "param_Lr": "b", "param_lr_2": "c", "param_param_lr": "e", "param_seed": "d",
        "metric_LR": 1.0, "acc": 3.0, "metric_number": 2.0,
    }
    assert {name: row[name] for name in row if name in wanted} == wanted


@pytest.mark.parametrize("name", [
    "a b", "it's", 'say "x"', "a.b/c:d-e@f", "é", "semi;colon", "back\\slash", "$[0]", "%",
])
def test_any_name_can_be_a_study_a_parameter_and_a_metric(writer, reader, study_row, trial_row, name):
    study_id = writer.create_study(study_row(name))
    writer.trial(trial_row(study_id, 0, metrics=json.dumps({name: 0.25})))
    writer.params(trial_id(study_id, 0), {name: 0.75})
    writer.commit(durable=False)
    writer.refresh_study_view(study_id)
    quoted = name.replace('"', '""')
    columns, rows = reader.query(f'select "{quoted}", "metric_{quoted}" from "study_{quoted}"')
    assert (columns, list(rows)) == ([name, f"metric_{name}"], [(0.75, 0.25)])


def test_more_names_than_columns_leave_the_view_usable(writer, reader, study_id, trial_row):
    writer.trial(trial_row(study_id, 0))
    writer.params(trial_id(study_id, 0), {f"p{i:04}": i for i in range(2_500)})
    writer.commit(durable=False)
    writer.refresh_study_view(study_id)
    (row,) = _ask(reader, "select * from study_digits")
    assert (len(row), row["p1899"], row["trial_id"]) == (1_913, 1_899, trial_id(study_id, 0))
