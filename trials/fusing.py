"""How many trials each worker trains as one model: as asked for, or as a short measurement on this machine says.

A sampler that learns gets fewer than pay best: what it suggests together it suggests without knowing how the others
end, and with all trials of a study in one batch it would be random search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from velodrome.errors import UsageError, nearest
from velodrome.trials.training_job import TrainingJob
from velodrome.types import Params

AUTO, OFF = "auto", "off"
_LEAST = 4
"""A measurement for fewer trials than this per worker costs more than it can save."""
_BATCHES = 8
"""A sampler that learns sees the results of all but one of about so many parts of its study before it suggests."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a study's training jobs run.

    Attributes:
        size: How many trials a worker trains as one model; 1 for one trial after another, as ordinary objectives.
        action: What it comes to, a word for ``decisions``: ``fuse`` or ``not fuse``.
        reason: Why, with the figures where something was measured.
        surprising: Whether the user should hear of it at once: trials that could have been fused are not.
    """

    size: int
    action: str
    reason: str
    surprising: bool = False


def not_measured(why: str) -> Choice:
    """The choice where there is no measurement to go by."""
    return Choice(1, "not fuse", f"not measured: {why}", surprising=True)


def parse(text: str) -> int | None:
    """What ``--fuse`` means: None for ``auto``, 1 for ``off``, else so many trials.

    Raises:
        UsageError: If it is neither of those, nor a number from 2.
    """
    if text == AUTO:
        return None
    if text == OFF:
        return 1
    if text.isascii() and text.isdigit() and int(text) >= 2:
        return int(text)
    raise UsageError(
        "How many trials to fuse is not understood", given=repr(text),
        allowed="auto, off, or how many trials one model is to hold: 2 or more", hint=nearest(text, (AUTO, OFF)),
    )


def check(text: str, executor: str, name: str, *, fuses: bool) -> None:
    """Refuses a number of trials to fuse where nothing can be fused.

    Raises:
        UsageError: If the objective ``name`` is no training job, or its executor runs one trial at a time.
    """
    if parse(text) in (None, 1):
        return
    if not fuses:
        raise UsageError(
            f"{name} can't be fused", given=f"--fuse {text}, and {name} is a function of a trial",
            allowed="a class derived from velo.TrainingJob", hint="leave --fuse out, or write it as a training job",
        )
    if executor != "process":
        raise UsageError(
            f"The executor {executor} trains one trial after another", given=f"--fuse {text} --executor {executor}",
            allowed="the executor process", hint="leave --executor or --fuse out",
        )


def choose(
    text: str, *, executor: str, target: int, workers: int, learns: bool, measure: Callable[[int], Choice]
) -> Choice:
    """How many trials a worker is to train as one model.

    Args:
        text: What was asked for: ``auto``, ``off`` or a number.
        executor: Its name; only ``process`` fuses.
        target: How many trials the study is to have.
        workers: How many workers there are to begin with.
        learns: Whether the sampler suggests by results.
        measure: Measures with at most so many trials to a model.
    """
    asked, share = parse(text), -(-target // max(1, workers))
    if asked == 1:
        return Choice(1, "not fuse", "as asked")
    if executor != "process":
        return Choice(1, "not fuse", f"the executor {executor} trains one trial after another")
    if asked is not None:
        size = min(asked, share)
        why = "as asked" if size == asked else f"{asked} were asked for, but this is an even part of {target} trials"
        return Choice(size, "fuse" if size > 1 else "not fuse", f"{size} to a worker's model: {why}")
    most, why = share, ""
    if learns and (few := max(1, target // _BATCHES // max(1, workers))) < share:
        most, why = few, f"; not above {few}, since the sampler learns from results (--fuse N, or --sampler random)"
    if most < _LEAST:
        return Choice(1, "not fuse", f"too few trials to a worker at a time ({most}) to be worth a measurement{why}")
    found = measure(most)
    return Choice(found.size, found.action, found.reason + why, found.surprising)


def measure(function: object, device: str, configurations: list[Params]) -> Choice:
    """How many of these trials a worker is best to train together, measured here and now.

    Args:
        function: The objective.
        device: Where.
        configurations: Of some trials, as the study will have them.
    """
    if not isinstance(function, TrainingJob):
        return not_measured("the objective is no training job")
    from velodrome.trials import failures
    from velodrome.trials.fused.member import Member
    from velodrome.trials.fused.partition import partition
    from velodrome.trials.fused.probe import probe

    members = [Member(number, params, number) for number, params in enumerate(configurations)]
    try:
        groups = partition(function, members, device)
        largest = max(groups, key=lambda group: len(group.members) if not group.reason else 0)
        if largest.reason:
            return Choice(1, "not fuse", largest.reason, surprising=True)
        found = probe(function, largest.members, num_processes=1, device=device)
    except Exception as error:  # the trials will fail in the same way, and say more
        return not_measured(failures.of_exception(error, function).message)
    kinds = f"; {len(members)} trials make {len(groups)} groups" if len(groups) > 1 else ""
    if not found.is_fused:
        return Choice(1, "not fuse", found.reason + kinds)
    return Choice(-(-found.group_size * len(members) // len(largest.members)), "fuse", found.reason + kinds)
