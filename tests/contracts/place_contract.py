"""What every executor must do when a trial's place is taken away; a part of ``ExecutorContract``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.executors import ENDINGS, ExecutorTests, Running
from velodrome.trials.checkpoints import Kept
from velodrome.trials.events import (
    Checkpointed,
    Event,
    Noted,
    Paused,
    Preempted,
    Reported,
    Restored,
    Returned,
)


class PlaceContract(ExecutorTests):
    """Tests of preemption."""

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
