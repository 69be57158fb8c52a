"""The trials of a study that are not finished, and how many of each kind there are; to its scheduler, the ``Peers``."""

from __future__ import annotations

import heapq

from velodrome.trials import commands as cmd
from velodrome.trials.lending import Fork
from velodrome.trials.live_trial import LiveTrial
from velodrome.types import TrialState


class Roster:
    """Who is there, and in which state; empty at first.

    Attributes:
        target: How many finished trials are asked for.
        next_number: The number of the next new trial; numbers have no gaps.
        exhausted: Why there is nothing new to try; empty while there may be.
        live: The unfinished trials by number, in the order of their numbers.
        counts: How many trials are in each state, the finished ones too.
        forks: The trials that are to begin from another's checkpoint, and have no number yet.
    """

    def __init__(self) -> None:
        self.target = 0
        self.next_number = 0
        self.exhausted = ""
        self.live: dict[int, LiveTrial] = {}
        self.counts = dict.fromkeys(TrialState, 0)
        self.forks: list[Fork] = []
        self._queue: list[int] = []
        """The numbers of the waiting trials as a heap, and of some that wait no more."""

    def add(self, trial: LiveTrial) -> None:
        """A new trial waits for its first start."""
        assert trial.number == self.next_number, "trial numbers have no gaps"
        self.live[trial.number] = trial
        self.next_number += 1
        self.counts[TrialState.WAITING] += 1
        heapq.heappush(self._queue, trial.number)

    def move(self, trial: LiveTrial, state: TrialState) -> None:
        """The trial comes to another state; one that is finished leaves."""
        self.counts[trial.state] -= 1
        self.counts[state] += 1
        trial.state = state
        if state is TrialState.WAITING:
            heapq.heappush(self._queue, trial.number)
        elif state.is_finished:
            del self.live[trial.number]

    def first_waiting(self) -> LiveTrial | None:
        """The waiting trial with the lowest number."""
        while self._queue:
            trial = self.live.get(self._queue[0])
            if trial is not None and trial.state is TrialState.WAITING:
                return trial
            heapq.heappop(self._queue)
        return None

    def fresh(self) -> cmd.Suggest | None:
        """A new trial, if one is left."""
        is_left = self.next_number < self.target and not self.exhausted
        return cmd.Suggest(self.next_number) if is_left else None

    @property
    def is_empty(self) -> bool:
        """Whether every trial is finished, and no other is to come."""
        return not self.live and (self.next_number >= self.target or bool(self.exhausted))

    def check(self, num_finished: int) -> None:
        """Asserts what must always hold."""
        assert all(not t.state.is_finished and n == t.number < self.next_number for n, t in self.live.items())
        assert num_finished + len(self.live) == self.next_number, "a trial was lost or doubled"
        for state in (TrialState.WAITING, TrialState.RUNNING, TrialState.PAUSED):
            assert self.counts[state] == sum(t.state is state for t in self.live.values())
        assert sum(self.counts[s] for s in TrialState if s.is_finished) == num_finished

    # --- what a scheduler may ask

    @property
    def num_begun(self) -> int:
        """How many trials there are so far, with those that are to begin from another's checkpoint."""
        return self.next_number + len(self.forks)

    @property
    def num_active(self) -> int:
        """How many trials are not finished, with those that are to begin from another's checkpoint."""
        return len(self.live) + len(self.forks)

    @property
    def is_ending(self) -> bool:
        """Whether nothing runs and nothing new is to come."""
        return not (
            self.counts[TrialState.RUNNING] or self.counts[TrialState.WAITING]
            or (self.next_number < self.target and (bool(self.forks) or not self.exhausted))
        )

    @property
    def has_completed(self) -> bool:
        """Whether any trial has come to its own end."""
        return self.counts[TrialState.COMPLETED] > 0

    def is_paused(self, number: int) -> bool:
        """Whether the trial is paused."""
        trial = self.live.get(number)
        return trial is not None and trial.state is TrialState.PAUSED

    def is_over(self, number: int) -> bool:
        """Whether the trial is finished."""
        return number < self.next_number and number not in self.live

    def can_lend(self, number: int) -> bool:
        """Whether the unfinished trial has a checkpoint."""
        trial = self.live.get(number)
        return trial is not None and bool(trial.checkpoints)
