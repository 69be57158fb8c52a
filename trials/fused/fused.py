"""Members of one structure trained as one batched model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.training_job import TrainingJob


class Fused:
    """The training of K members, each with its own hyperparameters; what ``Alone`` does, for all of them at once.

    Members with different batch sizes come to the ends of their epochs at different times, and none waits for another::

        group = Fused(job, members)
        while group.members:
            for number, reported_as in group.advance():      # whose report is due
                ...
            figures, bad = group.evaluate(), group.diverged()
            for number in ...:                               # finished, diverged, pruned, paused
                state = group.drop(number)
            group.compact()

    Args:
        job: What to train.
        members: Of one group of ``partition``.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: As for ``Alone``.
    """

    def __init__(
        self, job: TrainingJob, members: Sequence[Member], device: str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        raise NotImplementedError

    @property
    def members(self) -> list[Member]:
        """Those that still train, in the order of their rows."""
        raise NotImplementedError

    def advance(self) -> list[tuple[int, int]]:
        """Trains until some member's next report is due: the numbers of those, and what to report it as."""
        raise NotImplementedError

    def step(self, num: int = 1) -> None:
        """Trains every member for ``num`` optimiser steps."""
        raise NotImplementedError

    def evaluate(self) -> dict[int, dict[str, float]]:
        """By member, what ``Alone.evaluate`` returns."""
        raise NotImplementedError

    def diverged(self) -> dict[int, str]:
        """Members whose training has left the finite numbers, and what ``Alone.diverged`` says."""
        raise NotImplementedError

    def is_done(self, number: int) -> bool:
        """Whether a member's training is at its end."""
        raise NotImplementedError

    def state(self, number: int) -> MemberState:
        """A member's state."""
        raise NotImplementedError

    def drop(self, number: int) -> MemberState:
        """Takes a member out; the others don't notice. Its row goes on unseen until ``compact``."""
        raise NotImplementedError

    def compact(self) -> None:
        """Frees the rows of members that left."""
        raise NotImplementedError

    def add(self, member: Member, state: MemberState | None = None) -> None:
        """Takes a member in, fresh or with the state that it left somewhere else with."""
        raise NotImplementedError
