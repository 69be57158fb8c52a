"""What every executor must do about checkpoints; a part of ``ExecutorContract``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.executors import ENDINGS, ExecutorTests
from velodrome.trials.checkpoints import Kept
from velodrome.trials.events import (
    Checkpointed,
    Paused,
    Reported,
    Restored,
    Returned,
)


class CheckpointContract(ExecutorTests):
    """Tests of checkpoints, of going on from them, and of pauses."""

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
