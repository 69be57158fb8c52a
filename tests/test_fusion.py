"""Sweeps of a training job from end to end: trained together, every trial is what it is alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import velodrome as velo
from tests.contracts.job_contract import LINES
from tests.support.lines import Lines
from velodrome.cli.main import cli
from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.member import Member, MemberState

NUM_TRIALS, SIZE = 10, 5
Sweep = Callable[..., velo.Study]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fusion") / "velodrome.db"


@pytest.fixture(scope="module")
def sweep(store: Path) -> Sweep:
    def run(name: str, **settings: Any) -> velo.Study:
        usual = {"trials": NUM_TRIALS, "sampler": "random", "seed": 1, "workers": 1, "progress": False}
        return velo.sweep(LINES, name=name, store=store, **{**usual, **settings})

    return run


@pytest.fixture(scope="module")
def fused(sweep: Sweep) -> velo.Study:
    return sweep("fused", fuse=SIZE)


def test_the_leaderboard_is_that_of_trials_one_by_one(fused: velo.Study, sweep: Sweep) -> None:
    apart = sweep("apart", executor="inline")
    assert [t.params for t in fused.trials] == [t.params for t in apart.trials]
    assert [t.seed for t in fused.trials] == [t.seed for t in apart.trials]
    assert [t.value for t in fused.trials] == pytest.approx([t.value for t in apart.trials], rel=1e-4)
    assert [t.number for t in fused.top(NUM_TRIALS)] == [t.number for t in apart.top(NUM_TRIALS)]
    curves = [study.query(
        "select m.trial_id % 1000 as number, m.name, step, m.value from metrics m join trials t on t.id = m.trial_id "
        "where t.study_id = :study_id order by 1, 2, 3"
    ) for study in (fused, apart)]
    assert len(curves[0]) == NUM_TRIALS * Lines.epochs * 2 == len(curves[1])
    assert [row["value"] for row in curves[0]] == pytest.approx([row["value"] for row in curves[1]], rel=1e-3)


def test_the_best_trial_has_its_model_in_the_store(fused: velo.Study) -> None:
    best = fused.best
    member = Alone(Lines(), Member(best.number, best.params, best.seed))
    member.load(MemberState.from_dict(fused.checkpoint(best)))
    assert member.is_done
    assert member.evaluate()["error"] == pytest.approx(best.value)
    kept = fused.query("select step from checkpoints c join trials t on t.id = c.trial_id where t.study_id = :study_id")
    assert kept == [{"step": Lines.epochs}]


def test_the_choice_and_the_groups_are_shown(fused: velo.Study, store: Path) -> None:
    shown = CliRunner().invoke(cli, ["show", "fused", "--store", str(store)]).output
    assert f"{SIZE} to a worker's model: as asked" in shown
    one = CliRunner().invoke(cli, ["show", "fused", "3", "--store", str(store)]).output
    assert f"group     worker-0 group 1: one model with {SIZE - 1} other trials" in one


def test_trials_pause_and_are_promoted_in_groups(sweep: Sweep) -> None:
    study = sweep("asha", fuse=4, trials=16, scheduler="asha:min_steps=1,reduction=4,max_steps=4")
    states = [str(trial.state) for trial in study.trials]
    assert set(states) == {"completed", "pruned"}
    kinds = {row["kind"]: row["n"] for row in study.query(
        "select kind, count(*) as n from events where study_id = :study_id group by kind")}
    assert kinds["paused"] > kinds["thawed"] >= 1
    assert kinds["restored"] == kinds["thawed"]
    assert "lost" not in kinds
    for trial in study.trials:
        steps = study.query(
            "select step from metrics m join trials t on t.id = m.trial_id where t.study_id = :study_id and "
            "t.number = :number and m.name = 'error' order by step", number=trial.number,
        )
        assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
        assert (len(steps) == Lines.epochs) == (trial.state == "completed")


def test_a_function_is_not_fused(store: Path) -> None:
    with pytest.raises(velo.VeloError, match="<lambda> can't be fused"):
        velo.sweep(lambda trial: 1.0, fuse=4, store=store, progress=False, name="never")
    with pytest.raises(velo.VeloError, match="not understood"):
        velo.sweep(LINES, fuse="many", store=store, progress=False, name="never")
