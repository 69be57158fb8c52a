"""What every executor must do about objectives that fail; a part of ``ExecutorContract``."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.support.executors import ExecutorTests
from velodrome.trials.events import (
    Reported,
    Returned,
)


class FailureContract(ExecutorTests):
    """Tests of what a failure says, and of what it leaves behind."""

    def test_a_refused_suggestion_is_the_objectives_failure(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "return trial.suggest_int('refused', 0, 1)") as running:
            failure = running.failure(0)
        assert failure.kind == "user"
        assert "was a float before" in failure.message
        assert failure.code == "return trial.suggest_int('refused', 0, 1)"

    @pytest.mark.parametrize(("body", "kind", "words", "code"), [
        ("raise ValueError('my own mistake')", "user", "ValueError: my own mistake", "raise ValueError"),
        ("import sys\nsys.exit(3)", "user", "called sys.exit(3)", "sys.exit(3)"),
        ("raise MemoryError", "oom", "MemoryError", "raise MemoryError"),
        ("raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')", "oom", "CUDA out of memory", "raise"),
        ("class OutOfMemoryError(RuntimeError): pass\nraise OutOfMemoryError", "oom", "OutOfMemoryError", "raise"),
        ("return 'good'", "user", "train returned 'good' (str)", "def train(trial):"),
        ("return {'los': 1.0}", "user", "the goal's 'score' is not among its keys (los)", "def train(trial):"),
        ("return 1.0, 2.0", "user", "the result 2 values", "def train(trial):"),
        ("trial.report(1, score='high')", "user", "metric 'score' is no number", "trial.report(1, score='high')"),
        ("trial.report(1.5, 0.5)", "user", "the step is an integer", "trial.report(1.5, 0.5)"),
        ("trial.set_user_attr('a', object())", "user", "takes a JSON value", "trial.set_user_attr"),
        ("import json\njson.loads('{')", "user", "JSONDecodeError", "json.loads('{')"),
        ("trial.suggest_float('x', 2, 1)", "user", "'x'", "trial.suggest_float"),
        ("def deeper(n): return deeper(n + 1)\ndeeper(0)", "user", "RecursionError", "def deeper"),
    ])
    def test_a_failure_says_what_happened_in_which_line(
        self, tmp_path: Path, body: str, kind: str, words: str, code: str
    ) -> None:
        with self.running(tmp_path, body) as running:
            failure = running.failure(0)
        assert failure.kind == kind
        assert words in failure.message
        assert failure.file == str(tmp_path / "objective.py")
        assert failure.code.startswith(code)
        assert (tmp_path / "objective.py").read_text().splitlines()[failure.line - 1].strip() == failure.code
        assert "velodrome/" not in failure.traceback

    def test_nan_and_infinity_are_results(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "return trial.params['x']") as running:
            assert math.isnan(running.run(0, {"x": math.nan}).metrics["score"])
            assert running.run(1, {"x": math.inf}) == Returned(1, {"score": math.inf})

    def test_a_trial_after_a_failed_one_is_none_the_worse(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "return 1 / trial.params['x']") as running:
            assert running.failure(0, {"x": 0}).exception == "ZeroDivisionError"
            assert running.run(1, {"x": 2}) == Returned(1, {"score": 0.5})

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_fork_counts_once(self, tmp_path: Path) -> None:
        body = """
            import os
            pid = os.fork()
            trial.report(0, score=1.0)
            if pid:
                os.waitpid(pid, 0)
            elif trial.number == 1:
                raise ValueError("in the child")
            return trial.number
        """
        with self.running(tmp_path, body) as running:
            for number in range(3):
                running.run(number)
                report, result = Reported(number, 0, {"score": 1.0}), Returned(number, {"score": number})
                assert running.host.of(number) == [report, result]
