"""The examples do what their first lines say."""

from __future__ import annotations

import math
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

import velodrome as velo
from velodrome.types import FailureClass, TrialState

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> velo.Study:
    return velo.sweep(
        str(EXAMPLES / "digits.py"), trials=6, workers=2, sampler="random", scheduler="asha", seed=6,
        store=tmp_path_factory.mktemp("digits") / "velodrome.db", progress=False,
    )


def test_digits_reports_three_metrics_at_every_epoch(digits: velo.Study) -> None:
    rows = digits.query(
        "select name, max(step) as last, count(*) as count from reports where number = :number group by name",
        number=digits.best.number,
    )
    assert rows == [{"name": name, "last": 15, "count": 15} for name in ("accuracy", "loss", "val_loss")]


def test_digits_learns_and_nothing_fails(digits: velo.Study) -> None:
    assert str(digits.goal) == "maximize accuracy"
    assert {trial.state for trial in digits.trials} <= {TrialState.COMPLETED, TrialState.PRUNED}
    assert 0.9 < digits.best.metrics["accuracy"] <= 1.0


def test_digits_stops_where_the_scheduler_says_so_and_nowhere_else(digits: velo.Study) -> None:
    for trial in digits.trials:
        (row,) = digits.query("select max(step) as last from reports where number = :number", number=trial.number)
        if trial.state is TrialState.PRUNED:
            assert row["last"] in (1, 4)
            assert trial.reason.startswith(f"rung {row['last']}: ")
        else:
            assert row["last"] == 15


@pytest.mark.slow
def test_the_demo_is_quick_and_good(tmp_path: Path) -> None:
    start = time.monotonic()
    study = velo.sweep(
        str(EXAMPLES / "digits.py"), trials=40, workers=2, sampler="tpe", scheduler="asha", seed=1,
        store=tmp_path / "velodrome.db", progress=False,
    )
    assert time.monotonic() - start < 120
    assert len(study.trials) == 40
    assert study.best.value is not None
    assert study.best.value > 0.96


def test_an_optuna_objective_runs_as_it_is(tmp_path: Path) -> None:
    study = velo.sweep(
        str(EXAMPLES / "digits_optuna.py"), trials=10, workers=2, scheduler="median:min_trials=2", seed=1,
        goal="maximize accuracy", store=tmp_path / "velodrome.db", progress=False,
    )
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETED, TrialState.PRUNED}
    assert 0.9 < study.best.metrics["accuracy"] <= 1.0
    assert set(study.best.params) - {"eta0"} == {"loss", "alpha", "learning_rate"}
    for trial in study.trials:
        assert ("eta0" in trial.params) == (trial.params["learning_rate"] == "constant")
    epochs = study.query("select distinct a.value from attrs a where a.name = 'epochs'")
    assert epochs == [{"value": "10"}]


def test_the_same_file_runs_under_optuna_alone() -> None:
    path = EXAMPLES / "digits_optuna.py"
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=True)
    assert float(done.stdout.split()[0]) > 0.9
    assert "import velodrome" not in path.read_text()


@pytest.mark.parametrize(("x", "y"), [(-math.pi, 12.275), (math.pi, 2.275), (9.42478, 2.475)])
def test_branin_has_its_three_minima(x: float, y: float) -> None:
    """Values: Dixon and Szego 1978, as at https://www.sfu.ca/~ssurjano/branin.html."""
    names = runpy.run_path(str(EXAMPLES / "branin.py"))
    assert names["branin"](x, y) == pytest.approx(0.397887, abs=1e-6)
    assert names["gradient"](x, y) == pytest.approx((0.0, 0.0), abs=1e-4)


def test_branin_gradient_is_its_slope() -> None:
    names = runpy.run_path(str(EXAMPLES / "branin.py"))
    branin, x, y, h = names["branin"], -2.3, 7.9, 1e-6
    slope = (branin(x + h, y) - branin(x - h, y)) / (2 * h), (branin(x, y + h) - branin(x, y - h)) / (2 * h)
    assert names["gradient"](x, y) == pytest.approx(slope, rel=1e-6)


def test_branin_finds_the_minimum_and_some_descents_diverge(tmp_path: Path) -> None:
    study = velo.sweep(
        str(EXAMPLES / "branin.py"), trials=60, sampler="random", seed=1, executor="inline",
        store=tmp_path / "velodrome.db", progress=False,
    )
    assert study.best.value == pytest.approx(0.397887, abs=1e-4)
    failed = [trial for trial in study.trials if trial.failure is not None]
    assert failed
    assert {trial.failure.kind for trial in failed if trial.failure} == {FailureClass.DIVERGED}
    assert {trial.params["solver"] for trial in failed} == {"descent"}
