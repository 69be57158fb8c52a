"""What the public functions check, and what they keep, beyond what the command line's tests see."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import velodrome as velo
from velodrome.why import study_story

SPACE = velo.Space(x=velo.Float(0, 1))
QUIET: dict[str, Any] = {"executor": "inline", "progress": False, "seed": 1}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VELODROME_STORE", raising=False)


def train(trial: velo.Trial) -> float:
    return float(trial.params["x"])


def asks(trial: velo.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


@pytest.mark.parametrize("seed", [1 << 63, -(1 << 63) - 1])
def test_a_seed_that_the_store_can_not_keep_is_refused(seed: int) -> None:
    with pytest.raises(velo.VeloError, match="too large"):
        velo.sweep(train, SPACE, **{**QUIET, "seed": seed})
    with pytest.raises(velo.VeloError, match="too large"):
        velo.create_study(SPACE, seed=seed)
    assert not Path("velodrome.db").exists()


@pytest.mark.parametrize("seed", [(1 << 63) - 1, -(1 << 63), -1])
def test_seeds_of_64_bits_do(seed: int) -> None:
    assert velo.sweep(train, SPACE, trials=1, **{**QUIET, "seed": seed}).seed == seed


@pytest.mark.parametrize("sampler", ["grid", "sobol"])
def test_a_sampler_that_needs_a_space_is_refused_before_there_is_a_study(sampler: str) -> None:
    with pytest.raises(velo.VeloError, match="needs a search space"):
        velo.sweep(asks, trials=1, sampler=sampler, **QUIET)
    assert not Path("velodrome.db").exists()


@pytest.mark.parametrize("sampler", ["random", "grid", "sobol", "tpe"])
def test_a_space_that_holds_nothing_is_refused_before_there_is_a_study(sampler: str) -> None:
    space = velo.Space(x=velo.Int(0, 3), constraints=["x > 5"])
    with pytest.raises(velo.VeloError, match="constraint"):
        velo.sweep(train, space, trials=1, sampler=sampler, **QUIET)
    assert not Path("velodrome.db").exists()


@pytest.mark.parametrize("trials", [0, -1])
def test_a_resume_needs_trials_too(trials: int) -> None:
    velo.sweep(train, SPACE, trials=1, name="s", **QUIET)
    with pytest.raises(velo.VeloError, match="needs trials"):
        velo.resume("s", train, trials=trials, progress=False)
    assert velo.load_study("s").row.trials == 1


def test_why_the_workers_are_so_many_is_kept_at_each_start() -> None:
    study = velo.sweep(train, SPACE, trials=1, name="s", **{**QUIET, "executor": "process"}, workers=1)
    velo.resume("s", train, trials=2, executor="inline", progress=False)
    rows = study.query("select seq, trial_id, reason from decisions where decided_by = 'resources' and action = 'plan'")
    opened = study.query("select seq from events where kind = 'opened'")
    assert sorted({row["seq"] for row in rows}) == [row["seq"] for row in opened]
    reasons = [row["reason"] for row in rows]
    assert reasons[0] == "1 worker, as asked"
    assert "one trial at a time, in the study's own process: the executor is inline" in reasons[1:]
    assert sum("for each worker's libraries" in reason for reason in reasons) == 2, "and with how many threads"
    assert {row["trial_id"] for row in rows} == {None}


def test_what_was_chosen_can_be_pinned() -> None:
    study = velo.sweep(train, SPACE, trials=1, threads=3, resources="memory=1GiB", name="s", **QUIET)
    rows = study.query("select reason from decisions where decided_by = 'resources'")
    reasons = [row["reason"] for row in rows]
    assert "3 threads for each worker's libraries, as asked" in reasons
    assert "1 GiB of memory for each worker at most, as asked" in reasons
    with pytest.raises(velo.VeloError, match="threads=0"):
        velo.sweep(train, SPACE, trials=1, threads=0, **QUIET)


def test_a_study_by_hand_is_let_go_when_the_program_ends() -> None:
    code = """\
import velodrome as velo
study = velo.create_study(velo.Space(x=velo.Float(0, 1)), name="s")
trial = study.ask()
study.tell(trial, trial.params["x"])
study.ask()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    study = velo.load_study("s")
    assert study.state == "stopped"
    assert [trial.state for trial in study.trials] == ["completed", "running"]
    trial = study.ask()
    assert trial.number == 1  # the one that was never told
    study.close()


def test_a_study_by_hand_is_let_go_when_nobody_uses_it_any_more() -> None:
    velo.create_study(SPACE, name="s").ask()
    gc.collect()
    assert velo.load_study("s").state == "stopped"


def test_nothing_can_be_asked_of_a_study_whose_objective_asks() -> None:
    study = velo.sweep(asks, trials=1, name="s", **QUIET)
    with pytest.raises(velo.VeloError, match="no search space"):
        study.ask()
    study.close()


def test_failures_told_by_hand_are_alike_where_their_words_are() -> None:
    with velo.create_study(SPACE, name="s") as study:
        for reason in ("no data", "no data", "no disk"):
            study.tell(study.ask(), failed=reason)
    with velo.open_store() as reader:
        groups = study_story(reader, study.row).groups
    assert [(group.count, group.failure.message) for group in groups] == [(2, "no data"), (1, "no disk")]


@pytest.mark.parametrize(
    "result", ["3.5", {"value": "3.5"}, {"value": 10**400}, {"other": 1.0}, [1, 2], object(), None, 1j]
)
def test_what_is_no_result_can_not_be_told_and_the_trial_stays(result: Any) -> None:
    with velo.create_study(SPACE, name="s") as study:
        trial = study.ask()
        with pytest.raises(velo.VeloError):
            study.tell(trial, result)
        study.tell(trial, 1)
        assert study.best.value == 1.0


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_step_that_the_store_can_not_keep_fails_its_trial_alone(executor: str) -> None:
    def far(trial: velo.Trial) -> float:
        trial.report(2**63 if trial.number == 0 else 2**63 - 1, value=1.0)
        return 1.0

    study = velo.sweep(far, SPACE, trials=2, **{**QUIET, "executor": executor})
    assert [str(trial.state) for trial in study.trials] == ["failed", "completed"]
    assert "less than 2**63" in study.trials[0].failure.message  # type: ignore[union-attr]  # it failed


@pytest.mark.parametrize("step", [2**63, -1, 1.5, "1"])
def test_a_step_of_an_asked_trial_is_checked_too(step: Any) -> None:
    with velo.create_study(SPACE, name="s") as study:
        trial = study.ask()
        with pytest.raises((TypeError, ValueError), match="step"):
            trial.report(step, value=1.0)


def test_the_front_has_all_that_no_other_beats() -> None:
    def both(trial: velo.Trial) -> dict[str, float]:
        return {"a": round(trial.params["x"], 1), "b": round(1 - trial.params["x"], 1) + trial.number % 2}

    study = velo.sweep(both, SPACE, goal="minimize a, minimize b", trials=20, sampler="random", **QUIET)
    points = {t.number: (t.metrics["a"], t.metrics["b"]) for t in study.trials}
    assert [t.number for t in study.front] == [
        n for n, (a, b) in points.items() if not any(x <= a and y <= b and (x, y) != (a, b) for x, y in points.values())
    ]
    assert all(t.params for t in study.front)


def test_the_same_seed_inline_gives_the_same_suggestions_and_the_same_log(tmp_path: Path) -> None:
    space = velo.Space(x=velo.Float(0, 1), k=velo.Choice("a", b={"z": velo.Int(1, 9)}))

    def train(trial: velo.Trial) -> float:
        for step in range(1, 6):
            trial.report(step, value=trial.params["x"] / step)
            if trial.should_stop:
                break
        return float(trial.params["x"])

    def logged(name: str) -> list[object]:
        study = velo.sweep(
            train, space, trials=15, executor="inline", sampler="tpe", scheduler="asha", seed=3, name="s",
            store=tmp_path / name, progress=False,
        )
        return [
            study.query("select seq, kind, number, data from events where study_id = :study_id order by seq"),
            study.query("select trial_id, name, step, value, seq from metrics order by seq, name"),
            study.query("select trial_id, decided_by, action, reason from decisions order by seq"),
            [(t.state, t.params, t.metrics, t.seed) for t in study.trials],
        ]

    first = logged("first.db")
    assert len(first[1]) > 15  # type: ignore[arg-type]  # a list of rows
    assert logged("second.db") == first


NOT_SO: list[tuple[dict[str, Any], str]] = [
    ({"trials": "3"}, "trials"), ({"trials": 2.5}, "trials"), ({"seed": "a"}, "seed='a'"),
    ({"seed": 1.5}, "seed=1.5"), ({"goal": 3}, "'goal' is no text"), ({"sampler": 3}, "'sampler' is no text"),
    ({"name": 3}, "'name' is no text"), ({"resources": {"cpus": 1}}, "'resources' is no text"),
    ({"timeout_s": -1}, "timeout_s=-1"), ({"timeout_s": "10m"}, "timeout_s='10m'"), ({"retries": -1}, "retries=-1"),
    ({"breaker": -1}, "breaker=-1"), ({"hung_after_s": 0}, "hung_after_s=0"), ({"threads": 0}, "threads=0"),
    ({"workers": True}, "workers=True"), ({"space": {"x": 3}}, "This is no search space"),
]


@pytest.mark.parametrize(("given", "said"), NOT_SO, ids=[str(given) for given, _ in NOT_SO])
def test_an_argument_of_the_wrong_kind_is_refused_before_there_is_a_study(given: dict[str, Any], said: str) -> None:
    arguments = {"space": velo.Space(x=velo.Float(0, 1)), "executor": "inline", "progress": False, **given}
    with pytest.raises(velo.VeloError, match=said):
        velo.sweep(lambda trial: trial.params["x"], **arguments)
    assert not Path("velodrome.db").exists()


@pytest.mark.parametrize("objective", [None, 3, ["train.py"]])
def test_what_is_no_objective_is_refused(objective: Any) -> None:
    with pytest.raises(velo.VeloError, match="An objective is no function"):
        velo.sweep(objective, velo.Space(x=velo.Float(0, 1)), progress=False)
