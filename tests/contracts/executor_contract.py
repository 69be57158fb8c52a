"""What every executor must do. Subclass ``ExecutorContract`` and say how to make one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.checkpoint_contract import CheckpointContract
from tests.contracts.failure_contract import FailureContract
from tests.contracts.place_contract import PlaceContract
from velodrome.errors import ObjectiveError
from velodrome.trials.events import (
    AttrSet,
    Event,
    GivenBack,
    Quit,
    Reported,
    Returned,
)
from velodrome.trials.executor import Job
from velodrome.trials.objective import ObjectiveSource


class ExecutorContract(CheckpointContract, PlaceContract, FailureContract):
    """Tests for any executor."""

    # --- loading

    def test_describes_the_objective(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(
            "import velodrome as velo\n"
            "@velo.objective(velo.Space(x=velo.Float(0, 1)), goal='maximize score')\n"
            "def fit(trial):\n    return 1.0\n"
        )
        executor = self.make(ObjectiveSource.of("mine.py", str(tmp_path)))
        try:
            info = executor.describe()
        finally:
            executor.close()
        assert info.name == "fit"
        assert info.ref == f"{file.resolve()}:fit"
        assert info.goal == "maximize score"
        assert info.space is not None
        assert list(info.space["params"]) == ["x"]
        assert info.file == str(file.resolve())

    @pytest.mark.parametrize(("text", "words"), [
        ("1 / 0\n", "ZeroDivisionError"), ("import sys\nsys.exit(2)\n", "__name__"), ("def train(trial:\n", "Syntax"),
        ("import nothing_of_that_name\n", "nothing_of_that_name"), ("x = 1\n", "No function"),
    ])
    def test_a_file_that_can_not_be_loaded(self, tmp_path: Path, text: str, words: str) -> None:
        file = tmp_path / "broken.py"
        file.write_text(text)
        executor = self.make(ObjectiveSource.of(str(file)))
        try:
            with pytest.raises(ObjectiveError) as caught:
                executor.describe()
        finally:
            executor.close()
        assert words in str(caught.value)
        if "No function" not in words:
            assert str(file) in caught.value.traceback
        assert "velodrome/" not in caught.value.traceback

    def test_runs_a_closure(self, tmp_path: Path) -> None:
        offset = 0.25

        def train(trial: Any) -> float:
            return offset + float(trial.params["x"])

        with self.running(tmp_path, train) as running:
            assert running.info.ref == ""
            assert running.run(0, {"x": 0.5}) == Returned(0, {"score": 0.75})

    # --- what a trial sees and tells

    def test_trials_run_and_report_in_order(self, tmp_path: Path) -> None:
        body = "for i in range(50): trial.report(i, loss=i / 2)\nreturn trial.params['x']"
        with self.running(tmp_path, body) as running:
            for number in range(5):
                running.run(number, {"x": number / 10})
            for number in range(5):
                assert running.host.of(number) == [
                    *(Reported(number, i, {"loss": i / 2}) for i in range(50)),
                    Returned(number, {"score": number / 10}),
                ]

    def test_the_trial_knows_its_number_seed_attempt_device_and_study(self, tmp_path: Path) -> None:
        body = """
            assert (trial.device, trial.study) == ("cpu", "study")
            return {"score": trial.number, "seed": trial.seed, "attempt": trial.attempt}
        """
        with self.running(tmp_path, body) as running:
            running.launch(3, attempt=2)
            running.until(lambda: bool(running.host.of(3)))
            assert running.host.ending(3) == Returned(3, {"score": 3.0, "seed": 1003.0, "attempt": 2.0})

    def test_a_seed_seeds_the_libraries_that_are_imported(self, tmp_path: Path) -> None:
        body = "import random, numpy\nreturn random.random(), numpy.random.random()"
        with self.running(tmp_path, body, metrics=("a", "b")) as running:
            running.run(9)  # imports them, where nobody has yet
            first, other = running.run(0), running.run(1)
        with self.running(tmp_path, body, metrics=("a", "b")) as running:
            running.run(9)
            again = running.run(1)
        assert first.metrics != other.metrics == again.metrics

    def test_every_form_of_report(self, tmp_path: Path) -> None:
        body = """
            trial.report(1, score=0.1, loss=2)
            trial.report(2, {"score": 0.2})
            trial.report(0.3, 3)
            trial.report(0.4, step=4)
            trial.report(value=0.5, step=5)
            trial.report(step=6, score=0.6, loss=1)
            trial.report({"score": 0.7}, step=7)
            import numpy
            trial.report(numpy.int64(8), score=numpy.float32(0.5), loss=float("nan"))
        """
        with self.running(tmp_path, body) as running:
            assert running.run(0) == Returned(0, {})
            *reports, last, _ = running.host.of(0)
        assert reports == [
            Reported(0, 1, {"score": 0.1, "loss": 2.0}), Reported(0, 2, {"score": 0.2}), Reported(0, 3, {"score": 0.3}),
            Reported(0, 4, {"score": 0.4}), Reported(0, 5, {"score": 0.5}), Reported(0, 6, {"score": 0.6, "loss": 1.0}),
            Reported(0, 7, {"score": 0.7}),
        ]
        assert isinstance(last, Reported)
        assert last.metrics["score"] == 0.5
        assert math.isnan(last.metrics["loss"])

    def test_verdicts_end_a_trial_that_asks(self, tmp_path: Path) -> None:
        body = """
            for step in range(100):
                trial.report(step, score=0.0)
                if trial.should_stop:
                    return step
        """
        with self.running(tmp_path, body, asks=True) as running:
            running.host.stop_at_step = 7
            assert running.run(0) == Returned(0, {"score": 7.0})

    def test_a_trial_that_never_asks_is_pruned_at_a_later_report(self, tmp_path: Path) -> None:
        body = """
            import time
            for step in range(2000):
                trial.report(step, score=0.0)
                time.sleep(0.005)
        """
        with self.running(tmp_path, body, asks=True) as running:
            def stop(event: Event) -> None:
                if isinstance(event, Reported) and event.step == 3:
                    running.executor.stop(0, "the worst of all")

            running.host.on_event = stop
            assert running.run(0) == Quit(0, "the worst of all")

    def test_an_unmodified_optuna_objective(self, tmp_path: Path) -> None:
        body = """
            import optuna
            x = trial.suggest_float("x", 0.5, 1, log=True)
            assert x == trial.suggest_float("x", 0.5, 1, log=True) == trial.params["x"]
            n = trial.suggest_int("n", 2, 8, step=2)
            kind = trial.suggest_categorical("kind", ["a", "b"])
            shape = trial.suggest_categorical("shape", [(1, 2), (3, 4)])
            u = trial.suggest_uniform("u", 0, 1)
            trial.set_user_attr("note", {"shape": shape, "kind": kind})
            trial.report(x + n, 1)
            if trial.should_prune():
                raise optuna.TrialPruned("hopeless")
        """
        with self.running(tmp_path, body, asks=True) as running:
            running.host.stop_at_step = 1
            assert running.run(0) == Quit(0, "hopeless")
            assert running.host.of(0) == [
                AttrSet(0, "note", {"shape": [3, 4], "kind": "b"}), Reported(0, 1, {"score": 2.5}), Quit(0, "hopeless"),
            ]
            assert [name for name, _ in running.host.asked] == ["x", "n", "kind", "shape", "u"]
            assert running.host.asked[0][1] == {"type": "float", "low": 0.5, "high": 1.0, "log": True}

    def test_suggestions_of_a_declared_space_come_from_the_params(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "return trial.suggest_float('x', 0, 1)") as running:
            assert running.run(0, {"x": 0.125}) == Returned(0, {"score": 0.125})
            assert running.host.asked == []

    # --- less memory

    def test_batches_are_cut_into_parts_that_sum_up_to_the_whole(self, tmp_path: Path) -> None:
        body = """
            x, y = list(range(10)), list(range(10, 20))
            parts = list(trial.micro_batches(x, y))
            assert [i for _, a, _ in parts for i in a] == x and [i for _, _, b in parts for i in b] == y
            assert abs(sum(share for share, *_ in parts) - 1) < 1e-12
            assert all(abs(share - len(a) / 10) < 1e-12 for share, a, _ in parts)
            return {"score": len(parts), "divisor": trial.batch_divisor}
        """
        with self.running(tmp_path, body) as running:
            for divisor, parts in ((1, 1), (4, 4), (16, 10)):
                running.until(lambda: running.executor.room() > 0)
                running.executor.launch(Job(divisor, 2, 0, {}, batch_divisor=divisor))
                running.until(lambda number=divisor: bool(running.host.of(number)))  # type: ignore[misc]  # a default
                expected = Returned(divisor, {"score": float(parts), "divisor": float(divisor)})
                assert running.host.ending(divisor) == expected

    # --- the end

    def test_close_gives_back_what_did_not_end(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "import time\ntime.sleep(600)") as running:
            running.launch(0)
            running.executor.close()
            assert running.host.events == [GivenBack(0)]
