"""A training job as an ordinary objective: one trial by itself, under any executor.

What a trial does between two reports is here too, for the worker that trains several at once to do the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from velodrome.errors import Diverged
from velodrome.trials.context import Trial

if TYPE_CHECKING:
    from velodrome.trials.fused.member import Member
    from velodrome.trials.training_job import TrainingJob


def train_alone(job: TrainingJob, trial: Trial) -> None:
    """Trains the trial to its end; what it reported last is its result.

    Raises:
        Diverged: If the loss or the weights are finite no more.
    """
    from velodrome.trials.fused.alone import Alone
    from velodrome.trials.fused.member import MemberState

    alone = Alone(job, member_of(trial), trial.device)
    timer = SaveTimer(job.checkpoint_s)
    if (kept := trial.restore()) is not None:
        alone.load(MemberState.from_dict(kept))
    while not alone.is_done:
        step = alone.advance()
        trial.report(step, alone.evaluate())
        if bad := alone.diverged():
            raise Diverged(bad)
        ends = is_over(trial) or alone.is_done
        if wants_checkpoint(trial, timer, at_end=ends):
            trial.checkpoint(step, alone.state().to_dict())
        if ends:
            return


def member_of(trial: Trial) -> Member:
    """The trial as the engine knows it."""
    from velodrome.trials.fused.member import Member

    return Member(trial.number, trial.params, trial.seed)


class SaveTimer:
    """Says when a checkpoint is due that nobody asked for, against the loss of the worker.

    Args:
        every_s: After how long; the clock starts now.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s, self._saved_at = every_s, time.monotonic()

    def is_due(self) -> bool:
        """Whether the last one is long enough ago."""
        return time.monotonic() - self._saved_at >= self._every_s

    def restart(self) -> None:
        """A checkpoint is made now."""
        self._saved_at = time.monotonic()


def is_over(trial: Trial) -> bool:
    """Whether its scheduler ends the trial here."""
    return trial.should_stop and not trial.preempted


def wants_checkpoint(trial: Trial, timer: SaveTimer, *, at_end: bool) -> bool:
    """Whether to make a checkpoint of what was just reported.

    Yes where the trial is to pause, or gives its place away; where it ends here and its checkpoint would stay; and now
    and then.
    """
    wanted = trial.preempted or trial.wants_checkpoint(at_end=at_end) or (not at_end and timer.is_due())
    if wanted:
        timer.restart()
    return wanted
