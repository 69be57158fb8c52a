"""What every executor must do. Subclass ``ExecutorContract`` and say how to make one."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from velodrome.errors import ObjectiveError, SpaceError
from velodrome.trials.checkpoints import Kept
from velodrome.trials.events import (
    AttrSet,
    Checkpointed,
    Event,
    Failed,
    GivenBack,
    Lost,
    Noted,
    Paused,
    Preempted,
    Quit,
    Reported,
    Restored,
    Returned,
)
from velodrome.trials.executor import Executor, Job, ObjectiveInfo, StudyContext
from velodrome.trials.objective import ObjectiveSource
from velodrome.types import Failure, Params, ParamValue

PATIENCE_S = 30.0
ENDINGS = (Returned, Quit, Paused, Failed, Lost, Preempted, GivenBack)


class RecordingHost:
    """A host that writes down what it hears, answers by rule, and stops trials at a step where it is told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.outputs: list[tuple[int, int, str, int, int]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.on_event: Callable[[Event], None] = lambda _: None
        self.stop_at_step: int | None = None
        self.pause_at_step: int | None = None
        self.keeps = False

    def happened(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def suggest(self, number: int, name: str, domain: dict[str, Any]) -> ParamValue:
        if name == "refused":
            raise SpaceError("Parameter 'refused' was a float before", given="int", allowed="float")
        self.asked.append((name, domain))
        value: ParamValue = domain["options"][-1] if domain["type"] == "choice" else domain["low"]
        return value

    def should_stop(self, number: int) -> bool:
        return self.stop_at_step is not None and self.last_step(number) >= self.stop_at_step

    def should_pause(self, number: int) -> bool:
        reported, saved = ([e.step for e in self.of(number) if isinstance(e, k)] for k in (Reported, Checkpointed))
        return self.pause_at_step is not None and reported[-1] == saved[-1] >= self.pause_at_step

    def should_save(self, number: int, *, at_end: bool) -> bool:
        if at_end:
            return self.keeps
        return self.pause_at_step is not None and self.last_step(number) >= self.pause_at_step

    def output(self, number: int, attempt: int, path: str, start: int, end: int) -> None:
        self.outputs.append((number, attempt, path, start, end))

    def last_step(self, number: int) -> int:
        """The step that a trial reported last."""
        return [e.step for e in self.of(number) if isinstance(e, Reported)][-1]

    def of(self, number: int) -> list[Event]:
        """The events of one trial."""
        return [e for e in self.events if getattr(e, "number", None) == number]

    def ending(self, number: int) -> Any:
        """The event that ended a trial, which must be exactly one."""
        [event] = [e for e in self.of(number) if isinstance(e, ENDINGS)]
        return event

    def printed(self, number: int) -> str:
        """What a finished trial printed."""
        path, start, end = [(p, s, e) for n, _, p, s, e in self.outputs if n == number and e >= 0][-1]
        return Path(path).read_bytes()[start:end].decode()


class Running:
    """An executor over an objective, driven by hand."""

    def __init__(self, executor: Executor, host: RecordingHost, info: ObjectiveInfo) -> None:
        self.executor, self.host, self.info = executor, host, info

    def launch(
        self, number: int, params: Params | None = None, attempt: int = 1, checkpoints: tuple[Kept, ...] = (),
        origin: dict[str, Any] | None = None,
    ) -> None:
        """Hands over one trial as soon as there is room."""
        self.until(lambda: self.executor.room() > 0)
        self.executor.launch(Job(number, attempt, 1000 + number, params or {}, checkpoints, origin))

    def until(self, true: Callable[[], bool]) -> None:
        """Polls until something is so."""
        end_at = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end_at, f"nothing came of it; so far: {self.host.events}"
            self.executor.poll(0.05)

    def run(self, number: int, params: Params | None = None) -> Any:
        """Runs one trial to its end and returns the event that ended it."""
        self.launch(number, params)
        self.until(lambda: any(isinstance(e, ENDINGS) for e in self.host.of(number)))
        return self.host.ending(number)

    def failure(self, number: int, params: Params | None = None) -> Failure:
        """Runs one trial that must fail, and returns its failure."""
        event = self.run(number, params)
        assert isinstance(event, Failed), event
        return Failure.from_json(event.failure)


class ExecutorContract:
    """Tests for any executor."""

    def make(self, source: ObjectiveSource, **options: Any) -> Executor:
        """A new executor over the objective."""
        raise NotImplementedError

    @contextmanager
    def running(
        self, tmp_path: Path, body: str | Callable[..., Any], *, metrics: tuple[str, ...] = ("score",),
        asks: bool = False, pauses: bool = False, **options: Any,
    ) -> Iterator[Running]:
        """An open executor over a function, or over a file with that body of ``def train(trial)``."""
        source = ObjectiveSource.of(body if callable(body) else str(write_objective(tmp_path, body)))
        executor, host = self.make(source, **options), RecordingHost()
        try:
            info = executor.describe()
            logs = str(tmp_path / "logs")
            executor.open(host, StudyContext("study", metrics, asks, logs, str(tmp_path), "files/study", pauses))
            yield Running(executor, host, info)
        finally:
            executor.close()
            executor.close()

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

    # --- checkpoints

    def test_checkpoints_are_told_in_order_and_one_is_gone_on_from(self, tmp_path: Path) -> None:
        body = """
            state = trial.restore()
            total, first = (state["total"], trial.restored_step + 1) if state else (0, 1)
            for step in range(first, 5):
                total += step
                trial.report(step, score=total)
                trial.checkpoint(step, {"total": total})
        """
        with self.running(tmp_path, body) as running:
            assert running.run(0) == Returned(0, {})
            events = running.host.of(0)
            assert [type(e) for e in events] == [Reported, Checkpointed] * 4 + [Returned]
            saved = [e for e in events if isinstance(e, Checkpointed)]
            assert [e.path for e in saved] == [f"files/study/000000/step-{s:08d}-a1" for s in range(1, 5)]
            running.host.events.clear()
            running.launch(0, attempt=2, checkpoints=tuple(Kept(e.step, e.path, e.sha256) for e in saved[1::-1]))
            running.until(lambda: any(isinstance(e, Returned) for e in running.host.of(0)))
            first, *rest = running.host.of(0)
            assert first == Restored(0, 2, [])
            assert [(e.step, e.metrics) for e in rest if isinstance(e, Reported)] == [
                (3, {"score": 6.0}), (4, {"score": 10.0})]
            assert [e.path[-2:] for e in rest if isinstance(e, Checkpointed)] == ["a2", "a2"]

    def test_a_checkpoint_that_the_study_was_never_told_of_is_deleted(self, tmp_path: Path) -> None:
        body = "trial.restore(); trial.checkpoint(trial.attempt, None); return 1.0"
        with self.running(tmp_path, body) as running:
            running.run(0)
            running.launch(0, attempt=2)
            running.until(lambda: len([e for e in running.host.of(0) if isinstance(e, Returned)]) == 2)
            assert [path.name for path in (tmp_path / "files/study/000000").iterdir()] == ["step-00000002-a2"]

    def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(self, tmp_path: Path) -> None:
        body = """
            if trial.attempt == 1:
                for step in (1, 2):
                    trial.checkpoint(step, step)
                return 0
            state = trial.restore()
            return {"score": state or -1, "step": trial.restored_step or -1}
        """
        with self.running(tmp_path, body) as running:
            running.run(0)
            saved = [e for e in running.host.of(0) if isinstance(e, Checkpointed)]
            kept = tuple(Kept(e.step, e.path, e.sha256) for e in reversed(saved))
            for left in (1, 0):
                (tmp_path / kept[1 - left].path / "state.json").write_text("null")
                running.host.events.clear()
                running.launch(0, attempt=2, checkpoints=kept)
                running.until(lambda: any(isinstance(e, Returned) for e in running.host.of(0)))
                restored, returned = running.host.of(0)
                assert isinstance(restored, Restored)
                assert restored.step == (left or None)
                assert len(restored.skipped) == 2 - left
                assert "checkpoint of step 2 is damaged: state.json" in restored.skipped[0]
                assert returned == Returned(0, {"score": float(left or -1), "step": float(left or -1)})

    @pytest.mark.parametrize("body", [
        "return 1.0", "trial.report(1, score=1.0)", "trial.checkpoint(0, None)",
        "import velodrome; raise velodrome.Pruned",
    ])
    def test_a_trial_that_does_not_restore_says_that_it_starts_from_nothing(self, tmp_path: Path, body: str) -> None:
        with self.running(tmp_path, body) as running:
            running.launch(0, attempt=2, checkpoints=(Kept(5, "files/study/000000/step-00000005-a1", ""),))
            running.until(lambda: any(isinstance(e, ENDINGS) for e in running.host.of(0)))
            assert running.host.of(0)[0] == Restored(0, None, [])

    @pytest.mark.parametrize(("body", "words"), [
        ("trial.report(1, score=1.0); trial.restore()", "before them"),
        ("trial.restore(); trial.restore()", "call it once"),
        ("trial.checkpoint(3, None); trial.checkpoint(2, None)", "before that of the last checkpoint, 3"),
        ("trial.checkpoint('x', None)", "checkpoint: the step is an integer"),
        ("trial.checkpoint(1, {'a': [object()]})", "state['a'][0] is object"),
    ])
    def test_a_wrong_use_of_checkpoints_is_a_plain_error(self, tmp_path: Path, body: str, words: str) -> None:
        with self.running(tmp_path, body) as running:
            failure = running.failure(0)
            assert words in failure.message
            assert failure.code == body

    @pytest.mark.parametrize("first", ["trial.report(step, score=x); trial.checkpoint(step, x)",
                                       "trial.checkpoint(step, x); trial.report(step, score=x)"])
    @pytest.mark.parametrize("every", [1, 2])
    def test_a_pause_loses_no_report_and_repeats_none(self, tmp_path: Path, first: str, every: int) -> None:
        """Whether the objective reports before it makes a checkpoint or after, after every step or every second."""
        report = "trial.report(step, score=x)"
        indent = "\n" + 20 * " "
        step = first if every == 1 else f"if step % 2: {report}{indent}else: {first}"
        body = f"""
            x = trial.restore() or 1.0
            try:
                for step in range((trial.restored_step or 0) + 1, 7):
                    x = x * 1.5 + 0.1
                    {step}
            except Exception:
                x = -1.0
            finally:
                with open({str(tmp_path / "cleaned")!r}, "a") as file: file.write("x")
            return x
        """
        with self.running(tmp_path, body, pauses=True) as running:
            whole = running.run(0)
            running.host.pause_at_step = 3
            running.launch(1)
            running.until(lambda: any(isinstance(e, Paused) for e in running.host.of(1)))
            assert running.host.of(1)[-1] == Paused(1)
            saved = [e for e in running.host.of(1) if isinstance(e, Checkpointed)][-1]
            reported = [e.step for e in running.host.of(1) if isinstance(e, Reported)]
            assert saved.step == reported[-1] == (3 if every == 1 else 4)
            running.host.pause_at_step = None
            running.launch(1, attempt=2, checkpoints=(Kept(saved.step, saved.path, saved.sha256),))
            running.until(lambda: any(isinstance(e, Returned) for e in running.host.of(1)))
            values = [[(e.step, e.metrics) for e in running.host.of(n) if isinstance(e, Reported)] for n in (0, 1)]
            assert values[0] == values[1]
            assert running.host.of(1)[-1].metrics == whole.metrics
            assert (tmp_path / "cleaned").read_text() == "xxx"

    def test_a_state_from_another_trial_gets_this_ones_learning_rate(self, tmp_path: Path) -> None:
        """``load_state_dict`` would bring the parent's back; what is undone again is noticed."""
        body = """
            import torch
            weight = torch.nn.Parameter(torch.ones(1))
            optimizer = torch.optim.SGD([weight], lr=trial.params["lr"], momentum=0.9)
            if (state := trial.restore()) is not None:
                weight.data = state["weight"]
                optimizer.load_state_dict(state["optimizer"])
                if trial.params["mode"] == "wrong": optimizer.param_groups[0]["lr"] = 0.1
            before = weight.item()
            optimizer.zero_grad(); weight.sum().backward(); optimizer.step()
            trial.report(1, moved=before - weight.item(), lr=optimizer.param_groups[0]["lr"])
            trial.checkpoint(1, {"weight": weight.data, "optimizer": optimizer.state_dict()})
            return trial.parent if trial.parent is not None else -1
        """
        with self.running(tmp_path, body) as running:
            assert running.run(0, {"lr": 0.1, "mode": "right"}).metrics == {"score": -1.0}
            [saved] = [e for e in running.host.of(0) if isinstance(e, Checkpointed)]
            kept = (Kept(1, saved.path, saved.sha256),)
            for number, mode in ((1, "right"), (2, "wrong")):
                origin = {"parent": 0, "step": 1, "path": saved.path, "changed": {"lr": [0.1, 0.4]}}
                running.launch(number, {"lr": 0.4, "mode": mode}, checkpoints=kept, origin=origin)
                running.until(lambda n=number: any(isinstance(e, ENDINGS) for e in running.host.of(n)))
            assert running.host.ending(1).metrics == {"score": 0.0}
            [report] = [e for e in running.host.of(1) if isinstance(e, Reported)]
            assert report.metrics["lr"] == 0.4
            assert report.metrics["moved"] == pytest.approx(0.4 * 1.9)  # the parent's momentum is there, too
            assert "the optimizer's lr is 0.1" in running.host.ending(2).failure["message"]

    def test_a_forked_child_makes_no_checkpoints(self, tmp_path: Path) -> None:
        body = """
            import os
            pid = os.fork()
            if not pid:
                trial.checkpoint(1, "the child's")
                os._exit(0)
            os.waitpid(pid, 0)
            return 1.0
        """
        with self.running(tmp_path, body) as running:
            assert running.run(0) == Returned(0, {"score": 1.0})
            assert len(running.host.of(0)) == 1
            assert not (tmp_path / "files").exists()

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

    # --- places that are taken away

    def preempting(self, running: Running, step: int, grace_s: float = 60.0) -> Running:
        """Takes the place of trial 0 away when it reports this step."""
        def preempt(event: Event) -> None:
            if isinstance(event, Reported) and (event.number, event.step) == (0, step):
                running.executor.preempt(0, "bob has come", grace_s)

        running.host.on_event = preempt
        return running

    def test_a_preempted_trial_ends_at_its_next_checkpoint_and_goes_on_from_there(self, tmp_path: Path) -> None:
        """An objective that never asks whether to stop; the checkpoint is safe before it ends."""
        body = """
            import time
            total = trial.restore() or 0
            for step in range((trial.restored_step or 0) + 1, 41):
                total += step
                trial.report(step, score=total)
                time.sleep(0.01 if trial.attempt == 1 else 0)
                if step % 5 == 0:
                    trial.checkpoint(step, total)
            return total
        """
        with self.running(tmp_path, body) as running:
            assert self.preempting(running, 3).run(0) == Preempted(0, "bob has come")
            saved = [e for e in running.host.of(0) if isinstance(e, Checkpointed)]
            assert isinstance(running.host.of(0)[-2], Checkpointed), "nothing came after it"
            assert saved[-1].step < 40
            running.host.events.clear()
            running.launch(0, attempt=2, checkpoints=tuple(Kept(e.step, e.path, e.sha256) for e in saved[::-1]))
            running.until(lambda: any(isinstance(e, ENDINGS) for e in running.host.of(0)))
            assert running.host.of(0)[0] == Restored(0, saved[-1].step, [])
            assert running.host.ending(0) == Returned(0, {"score": 820.0})

    def test_a_trial_that_is_to_pause_and_to_give_its_place_away_ends_once_at_its_checkpoint(
        self, tmp_path: Path
    ) -> None:
        """Whichever word reaches it first; the one behind it is not concerned."""
        body = """
            for step in range(1, 7):
                trial.report(step, score=step)
                trial.checkpoint(step, step)
            return 7.0
        """
        with self.running(tmp_path, body, pauses=True) as running:
            running.host.pause_at_step = 3
            self.preempting(running, 3).launch(0)
            running.until(lambda: any(isinstance(e, ENDINGS) for e in running.host.of(0)))
            assert running.host.ending(0) in (Paused(0), Preempted(0, "bob has come"))
            saved = running.host.of(0)[-2]
            assert isinstance(saved, Checkpointed)
            assert saved.step == 3
            running.host.pause_at_step = None
            running.host.on_event = lambda _: None
            assert running.run(1) == Returned(1, {"score": 7.0})

    @pytest.mark.parametrize("end", [
        "return step", "return None", "import velodrome; raise velodrome.Pruned",
        "import optuna; raise optuna.TrialPruned", "raise KeyError('cut short')", "return {'no': 'result'}",
    ])
    def test_a_trial_that_was_told_of_its_preemption_is_not_finished_however_it_ends(
        self, tmp_path: Path, end: str
    ) -> None:
        body = f"""
            import time
            for step in range(1000):
                trial.report(step, score=step)
                time.sleep(0.005)
                if trial.should_stop:
                    {end}
        """
        with self.running(tmp_path, body) as running:
            assert self.preempting(running, 3).run(0) == Preempted(0, "bob has come")

    def test_a_preempted_trial_that_comes_to_its_end_without_being_told_is_finished(self, tmp_path: Path) -> None:
        body = """
            import time
            for step in range(5):
                trial.report(step, score=step)
                time.sleep(0.05)
            return 7.0
        """
        with self.running(tmp_path, body) as running:
            assert self.preempting(running, 1).run(0) == Returned(0, {"score": 7.0})
            running.host.on_event = lambda _: None
            assert running.run(1) == Returned(1, {"score": 7.0}), "and the next trial is not preempted"

    def test_a_preempted_trial_that_only_reports_ends_at_a_report_when_its_time_is_nearly_over(
        self, tmp_path: Path
    ) -> None:
        body = """
            import time
            for step in range(10000):
                trial.report(step, score=step)
                time.sleep(0.01)
        """
        with self.running(tmp_path, body) as running:
            assert self.preempting(running, 1, grace_s=0.4).run(0) == Preempted(0, "bob has come")

    def test_an_objective_that_catches_exceptions_does_not_hold_its_preemption_up(self, tmp_path: Path) -> None:
        body = """
            import time
            for step in range(1000):
                try:
                    trial.report(step, score=step)
                    time.sleep(0.005)
                    trial.checkpoint(step, step)
                except Exception:
                    pass
        """
        with self.running(tmp_path, body) as running:
            assert self.preempting(running, 3).run(0) == Preempted(0, "bob has come")

    def test_a_trial_that_has_not_restored_yet_keeps_its_checkpoints_when_it_is_preempted(self, tmp_path: Path) -> None:
        body = """
            import time
            trial.note("wait", "until told")
            for _ in range(2000):
                if trial.preempted:
                    return 1.0
                time.sleep(0.005)
        """
        with self.running(tmp_path, body) as running:
            def preempt(event: Event) -> None:
                if isinstance(event, Noted):
                    running.executor.preempt(0, "bob has come", 60.0)

            running.host.on_event = preempt
            running.launch(0, attempt=2, checkpoints=(Kept(5, "files/study/000000/step-00000005-a1", ""),))
            running.until(lambda: any(isinstance(e, ENDINGS) for e in running.host.of(0)))
            assert running.host.of(0) == [
                Noted(0, "objective", "wait", "until told"), Preempted(0, "bob has come")
            ], "no word that it started from nothing"

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

    # --- failures

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

    # --- the end

    def test_close_gives_back_what_did_not_end(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "import time\ntime.sleep(600)") as running:
            running.launch(0)
            running.executor.close()
            assert running.host.events == [GivenBack(0)]


def write_objective(tmp_path: Path, body: str) -> Path:
    """A file whose ``train(trial)`` has that body."""
    file = tmp_path / "objective.py"
    file.write_text("def train(trial):\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n")
    return file
