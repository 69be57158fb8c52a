"""Whether fusing pays on this machine: measured in a short run, not believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from velodrome.trials.fused.member import Member
from velodrome.trials.training_job import TrainingJob


@dataclass(frozen=True, slots=True)
class Choice:
    """What a probe found.

    Attributes:
        is_fused: Whether to fuse.
        group_size: Members of one group.
        figures: Model-steps per second by way: ``"alone"``, ``"fused x8"``, ..., each in one process of the pool.
        reason: A sentence for the study's decisions.
    """

    is_fused: bool
    group_size: int
    figures: dict[str, float]
    reason: str


def probe(
    job: TrainingJob, members: Sequence[Member], *, num_processes: int, device: str = "cpu", budget_s: float = 2.0
) -> Choice:
    """Measures members of one group alone and fused, for ``budget_s`` at most."""
    raise NotImplementedError
