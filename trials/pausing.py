"""Pausing trials: when one may leave its worker, whose turn it is when a place is free, and what if none ever can.

The part of the trial table that is about schedulers that pause (ASHA, Hyperband, population based training).
"""

from __future__ import annotations

from velodrome.search.scheduler import PausingScheduler, Turn
from velodrome.trials import commands as cmd
from velodrome.trials.live_trial import LiveTrial
from velodrome.trials.roster import Roster


def may_leave(trial: LiveTrial) -> bool:
    """Whether the trial is to leave its worker now: its last report and its newest checkpoint are of the same step.

    So nothing is reported twice or never, whether the objective reports before it makes a checkpoint or after.
    """
    return bool(trial.pause_reason) and bool(trial.checkpoints) and trial.checkpoints[-1].step == trial.step


class Pausing:
    """What a scheduler that pauses wants, and whether the objective lets it.

    Attributes:
        has_checkpoints: Whether any trial has made a checkpoint.
        has_paused: Whether any trial was ever paused.
        lends: Whether trials go on from the checkpoints of others.
    """

    def __init__(self, scheduler: PausingScheduler, roster: Roster) -> None:
        self.has_checkpoints = self.has_paused = False
        self.lends = hasattr(scheduler, "explore")
        self._scheduler, self._roster = scheduler, roster

    def next(self) -> cmd.Suggest | cmd.Take | cmd.GiveUp | cmd.Conclude | None:
        """What the scheduler wants with a free place; at the end of the study, what becomes of those still paused."""
        roster = self._roster
        if roster.forks and roster.next_number < roster.target:
            return cmd.Suggest(roster.next_number, roster.forks[0])
        turn = self._scheduler.turn(roster)
        if isinstance(turn, tuple):
            return cmd.Take(*turn)
        if turn is Turn.FRESH and (fresh := roster.fresh()) is not None:
            return fresh
        if roster.is_ending and roster.live:
            trial = next(iter(roster.live.values()))
            return cmd.GiveUp(trial.number, f"{trial.reason}; it was never promoted")
        if turn is Turn.NOTHING and not roster.live and not roster.exhausted:
            return cmd.Conclude("the scheduler wants no more trials")
        return None

    def seems_impossible(self, trial: LiveTrial) -> bool:
        """Whether the trial has made twice the steps at which it was to pause, and no trial any checkpoint so far."""
        if self.has_checkpoints or trial.step is None or trial.pause_step is None:
            return False
        return trial.step > trial.pause_step and trial.step >= 2 * trial.pause_step

    def why_impossible(self, trial: LiveTrial) -> cmd.GiveUpPausing:
        """Why no trial can be paused, as far as this one shows, and what is done instead."""
        made = "no checkpoint was of the same step as a report" if self.has_checkpoints else "no checkpoint was made"
        return cmd.GiveUpPausing(trial.number, f"{self._scheduler.without_pauses}: {made} up to step {trial.step}, and "
                                              f"trial {trial.number} was to pause at step {trial.pause_step}")

    def give_up(self) -> None:
        """The scheduler does without, and nobody is to pause any more."""
        self._scheduler.give_up_pausing()
        for trial in self._roster.live.values():
            trial.pause_reason, trial.pause_step = "", None
