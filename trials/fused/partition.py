"""Who can train with whom: groups of members of one structure, and for those that can't be fused, the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from velodrome.trials.fused.member import Member
from velodrome.trials.training_job import TrainingJob


@dataclass(frozen=True, slots=True)
class Group:
    """Members that can train as one model.

    Attributes:
        members: In the order in which they were given.
        reason: Why they can't be fused, naming the module; empty where they can.
    """

    members: tuple[Member, ...]
    reason: str = ""


def partition(job: TrainingJob, members: Sequence[Member], device: str = "cpu") -> list[Group]:
    """The groups, in the order of their first members; those with a reason train each member alone."""
    raise NotImplementedError
