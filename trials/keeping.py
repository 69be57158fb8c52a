"""The checkpoints of a study's trials: which each can go on from, and which can be deleted when.

Pure bookkeeping of the trial table's. ``Retention`` says what stays of a finished trial, ``Lending`` who else needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from velodrome.search.sampler import BEGINS_FROM, LENDS
from velodrome.trials import commands as cmd
from velodrome.trials import events as ev
from velodrome.trials.lending import Fork, Lending
from velodrome.trials.live_trial import LiveTrial
from velodrome.trials.retention import LAST, Retention, Saved
from velodrome.types import Goal, TrialState


class Keeping:
    """Adds to and takes from ``Trial.checkpoints``; what no trial needs any more is to be discarded.

    Args:
        rule: Of which finished trials a checkpoint stays; see ``Retention``.
        goal: What is better.
    """

    def __init__(self, rule: str, goal: Goal) -> None:
        self._goal = goal
        self._retention = Retention(rule, goal)
        self._lending = Lending()
        self._lent: dict[int, Saved] = {}
        """The last checkpoints of finished trials that others begin from, by number."""

    def made(self, trial: LiveTrial, event: ev.Checkpointed) -> list[cmd.Discard]:
        """The trial has a new checkpoint: the last few stay, and none of a step that it did not reach again."""
        saved = Saved(event.step, event.path, event.sha256, event.metrics, event.last_step)
        older = [c for c in trial.checkpoints if c.step < event.step][1 - LAST:]
        replaced = [c for c in trial.checkpoints if c not in older]
        trial.checkpoints = (*older, saved)
        return self._drop(trial.number, replaced)

    def passed_over(self, trial: LiveTrial, step: int | None) -> list[cmd.Discard]:
        """The trial went on from its checkpoint of ``step``, or from none: newer ones are no good."""
        return self._leave(trial, [c for c in trial.checkpoints if step is not None and c.step <= step])

    def paused(self, trial: LiveTrial) -> list[cmd.Discard]:
        """The trial is paused: its newest checkpoint is enough."""
        return self._leave(trial, trial.checkpoints[-1:])

    def distrusted(self, trial: LiveTrial) -> list[cmd.Discard]:
        """The trial starts from nothing."""
        return self._leave(trial, ())

    def lend(self, parent: LiveTrial) -> Fork:
        """Another trial is to go on from this one's newest checkpoint."""
        saved = parent.checkpoints[-1]
        self._lending.lend(parent.number, saved.path)
        return Fork(parent.number, dict(parent.params), saved)

    def begin(self, trial: LiveTrial) -> None:
        """The trial has its suggestion; where that says so, it begins from what a finished one lends: at step -1."""
        lender = trial.attrs.get(BEGINS_FROM)
        if isinstance(lender, int) and (saved := self._lent.get(lender)) is not None:
            self._lending.lend(lender, saved.path)
            trial.checkpoints = (saved._replace(step=-1, metrics={}, last_step=None),)

    def would_stay(self, trial: LiveTrial) -> bool:
        """Whether a checkpoint of the trial would stay if it ended with what it reported last."""
        if trial.attrs.get(LENDS):
            return True
        values = tuple(trial.metrics.get(name, math.nan) for name in self._goal.metrics)
        return not trial.stop_reason and all(map(math.isfinite, values)) and self._retention.would_keep(values)

    def finished(self, trial: LiveTrial) -> list[cmd.Discard]:
        """The trial is finished: what goes of its own, of those it borrowed, and of others that it replaces."""
        if not trial.checkpoints:
            return []
        borrowed = [c for c in trial.checkpoints if self._lending.is_borrowed(trial.number, c.path)]
        own = tuple(c for c in trial.checkpoints if c not in borrowed)
        discards = self._drop(trial.number, borrowed)
        if trial.attrs.get(LENDS) and own and trial.state is not TrialState.FAILED:
            self._lent[trial.number] = own[-1]
            self._lending.lend(trial.number, own[-1].path)  # and is never given back
        for number, saved in self._retention.finish(trial.number, trial.state, trial.values, own):
            discards += self._drop(number, [saved])
        return discards

    def _leave(self, trial: LiveTrial, kept: Iterable[Saved]) -> list[cmd.Discard]:
        """Takes all but these from the trial."""
        before, trial.checkpoints = trial.checkpoints, tuple(kept)
        return self._drop(trial.number, [c for c in before if c not in trial.checkpoints])

    def _drop(self, number: int, checkpoints: Iterable[Saved]) -> list[cmd.Discard]:
        """The trial needs these no more; those that no other needs are discarded."""
        return [cmd.Discard(owner, path) for owner, path in self._lending.drop(number, checkpoints)]
