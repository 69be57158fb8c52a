"""The sampler of a study that names none: ``auto`` looks at the space and the goal.

The study keeps the sampler that was chosen, so a resume goes on with it whatever ``auto`` may mean by then.
"""

from __future__ import annotations

from dataclasses import dataclass

from velodrome.errors import UsageError
from velodrome.search.arch.stages import is_staged
from velodrome.search.options import parse
from velodrome.search.registry import AUTO
from velodrome.search.space import Space


@dataclass(frozen=True, slots=True)
class SamplerChoice:
    """The sampler of a study.

    Attributes:
        sampler: Its name and options, as ``make_sampler`` takes them.
        reason: Why it was chosen; empty where it was named.
        surprising: Whether the user should hear of it at once: it is not what most studies get.
    """

    sampler: str
    reason: str = ""
    surprising: bool = False


def choose_sampler(text: str, space: Space | None) -> SamplerChoice:
    """The sampler that a text names, or for ``auto`` the one that was measured best for such a study.

    Args:
        text: As ``make_sampler`` takes it, or ``auto``.
        space: The search space; None or empty for a define-by-run objective.

    Raises:
        UsageError: If ``auto`` has options.
    """
    name, options = parse(text)
    if name != AUTO:
        return SamplerChoice(text)
    if options:
        raise UsageError(f"The sampler {AUTO!r} has no options", given=repr(text), allowed=AUTO,
                         hint="name the sampler whose options these are, such as predictor:start=5")
    if space is None or not space.nets:
        return SamplerChoice("tpe", "auto: the space has no architecture")
    if is_staged(space):
        return SamplerChoice("sharing", "auto: the space has the stages of weight sharing", surprising=True)
    return SamplerChoice("predictor", f"auto: the space has an architecture ({', '.join(space.nets)})", surprising=True)
