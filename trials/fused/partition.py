"""Who can train with whom: groups of members of one structure, and for those that can't be fused, the reason.

What has to be equal is compared: the modules and their settings, the class of the optimiser, texts that the loss reads.
What may differ, by what is known of ``vmap`` and of zero padding, is tried out: the gradients of the first batch and
the metrics in a group have to be those alone. Where they are not, members of other widths, sizes or numbers are parted.

Batches and widths of other orders of magnitude are parted too: filled up to the largest, they would cost as much, and a
group of 8 has most of the speed of one of 64 (measured: 85 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from velodrome.trials.fused.alone import Alone, generator_of, new_model, order_of
from velodrome.trials.fused.fused import Fused
from velodrome.trials.fused.glance import Glance, glance
from velodrome.trials.fused.member import Member
from velodrome.trials.fused.programs import CantFuse
from velodrome.trials.fused.structure import numbers_of, shapes_of, structure_of, unsupported
from velodrome.trials.training_job import TrainingJob, length_of, spec_of

_SAMPLE = 6
"""So many members are tried, of different kinds."""

_MAX_KNOWN = 1024
"""Of so many members it is kept what they are compared by."""

_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""By precision, of the largest gradient of a tensor, and of a metric: far above rounding, far below a mistake."""


@dataclass(frozen=True, slots=True)
class Group:
    """Members that can train as one model.

    Attributes:
        members: In the order in which they were given.
        reason: Why they can't be fused, naming the module; empty where they can.
    """

    members: tuple[Member, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A member and what it is compared by."""

    member: Member
    structure: Hashable
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    numbers: tuple[Hashable, ...]
    batch_size: int
    problem: str


class _Known:
    """What was found out about a job before, so that members who come later are placed at once."""

    def __init__(self) -> None:
        self.problems: dict[Hashable, str] = {}
        self._candidates: dict[int, _Candidate] = {}

    def candidate(self, job: TrainingJob, member: Member) -> _Candidate:
        """What a member is compared by."""
        found = self._candidates.get(member.number)
        if found is None or found.member != member:
            if len(self._candidates) >= _MAX_KNOWN:
                self._candidates.clear()
            found = self._candidates[member.number] = _candidate(job, member)
        return found


def partition(job: TrainingJob, members: Sequence[Member], device: str = "cpu") -> list[Group]:
    """The groups, in the order of their first members; those with a reason train each member alone."""
    known: _Known = job.__dict__.setdefault("_partitioned", _Known())
    candidates = [known.candidate(job, member) for member in members]
    groups: list[Group] = []
    for same in _split(candidates, lambda c: (c.problem, c.structure)):
        if same[0].problem:
            groups.append(_group(same, same[0].problem))
            continue
        try:
            seen = _glance(job, same[0].member, device)
        except Exception as error:
            groups.append(_group(same, _failure(error)))
            continue
        for alike in _split(same, lambda c, seen=seen: (_read(c, seen), _size(c, device))):  # type: ignore[misc]
            groups += _tried(job, alike, seen, device, known)
    first = {member.number: place for place, member in enumerate(members)}
    return sorted(groups, key=lambda group: first[group.members[0].number])


def _candidate(job: TrainingJob, member: Member) -> _Candidate:
    try:
        model = new_model(job, member, "cpu", None)
        kind = type(spec_of(job, member.params)).__name__
        length = length_of(job, member.params, job.dataset().num_train)
    except Exception as error:
        return _Candidate(member, None, (), (), 0, _failure(error))
    shapes = tuple(shapes_of(model).items())
    return _Candidate(
        member, (kind, structure_of(model)), shapes, numbers_of(model), length.batch_size, unsupported(model)
    )


def _failure(error: Exception) -> str:
    """That the job's own code raises: alone, the trial fails with it as any other would."""
    return f"the job raises {type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _tried(
    job: TrainingJob, those: list[_Candidate], seen: Glance, device: str, known: _Known
) -> list[Group]:
    """The candidates as one group if that works, parted if that does, else with the reason why not."""
    problem = _problem(job, those, seen, device, known)
    if not problem:
        return [_group(those)]
    parts = _split(those, lambda c: _all_numbers(c, seen))
    if len(parts) in (1, len(those)) or _problem(job, parts[0], seen, device, known):
        return [_group(those, problem)]
    return [_group(part) for part in parts]


def _problem(job: TrainingJob, those: list[_Candidate], seen: Glance, device: str, known: _Known) -> str:
    """Why these are not to be fused; tried once for members of a structure that differ in the same respects."""
    differences = tuple(len({*column}) > 1 for column in zip(*(_all_numbers(c, seen) for c in those), strict=True))
    key = those[0].structure, _read(those[0], seen), differences
    if key not in known.problems:
        known.problems[key] = _try(job, those, seen, device)
    return known.problems[key]


def _try(job: TrainingJob, those: list[_Candidate], seen: Glance, device: str) -> str:
    """Why these are not to be fused; empty where a sample of them has the same numbers as alone."""
    kinds = [same[0] for same in _split(those, lambda c: _all_numbers(c, seen))]
    sample = [c.member for c in [*kinds[:: max(1, len(kinds) // _SAMPLE)], *those[1:2]]]
    sample = list({member.number: member for member in sample}.values())
    try:
        group = Fused(job, sample, device)
        figures = group.evaluate()
        group.step(1)
    except CantFuse as error:
        return str(error)
    tolerance = _TOLERANCE[job.precision]
    for member in sample:
        own = Alone(job, member, device).evaluate()
        for name, value in own.items():
            ours = figures[member.number][name]
            if not _is_near(ours, value, tolerance):
                return f"{name} of the validation data is {ours:.6g} in a group and {value:.6g} alone"
        alone = _glance(job, member, device).gradients
        wrong = _first_wrong(group.gradients(member.number), alone, tolerance)
        if wrong:
            return f"the gradient by {wrong} is another in a group than alone"
    try:
        group.step(1)  # by the program that the first one left
    except RuntimeError as error:
        return f"its second step fails: {str(error).partition(chr(10))[0]}"
    return ""


def _first_wrong(group: dict[str, Tensor], alone: dict[str, Tensor], tolerance: float) -> str:
    """The first parameter whose gradients differ by more than rounding."""
    largest = max((float(g.abs().max()) for g in alone.values() if g.numel()), default=0.0)
    for name, gradient in alone.items():
        if gradient.numel() == 0:
            continue
        allowed = tolerance * (float(gradient.abs().max()) + 1e-2 * largest)
        if name not in group or not float((group[name] - gradient).abs().max()) <= allowed:
            return name
    return ""


def _glance(job: TrainingJob, member: Member, device: str) -> Glance:
    """A look at the member's first step."""
    data = job.dataset(device)
    size = length_of(job, member.params, data.num_train).batch_size
    order = order_of(job, member, data.num_train, size)
    samples = order.epoch(0)[:size].to(device)
    batch = tuple(part.index_select(0, samples) for part in data.train)
    model: nn.Module = new_model(job, member, device, None)
    with torch.random.fork_rng(devices=[]):
        return glance(job, member, model, batch, generator_of(member, device))


def _read(candidate: _Candidate, seen: Glance) -> Hashable:
    """What the loss reads and can't be a tensor; the size of the batch, if the loss has but one number for it."""
    params = candidate.member.params
    texts = tuple((name, repr(params.get(name))) for name in seen.params_read if not _is_number(params.get(name)))
    return texts, None if seen.is_per_sample else candidate.batch_size


def _all_numbers(candidate: _Candidate, seen: Glance) -> tuple[Hashable, ...]:
    """All that may differ within a group, by respects."""
    params = candidate.member.params
    values = tuple((name, params.get(name)) for name in seen.params_read if _is_number(params.get(name)))
    return (candidate.shapes, *candidate.numbers, values, candidate.batch_size)


def _size(candidate: _Candidate, device: str) -> tuple[int, int]:
    """Classes of batch size and of number of weights: in one model, all take as long as the largest."""
    base = 2.0 if device == "cpu" else 4.0
    num_weights = sum(math.prod(shape) for _, shape in candidate.shapes)
    return int(math.log(candidate.batch_size, base) + 1e-9), int(math.log(max(num_weights, 1), base * base) + 1e-9)


def _split(those: Sequence[_Candidate], key: Callable[[_Candidate], Any]) -> list[list[_Candidate]]:
    """Those with equal keys together, in the order of the first of each."""
    parts: dict[Any, list[_Candidate]] = {}
    for candidate in those:
        parts.setdefault(key(candidate), []).append(candidate)
    return list(parts.values())


def _group(those: Sequence[_Candidate], reason: str = "") -> Group:
    return Group(tuple(c.member for c in those), reason)


def _is_near(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= tolerance * (10.0 + abs(b)) or not (math.isfinite(a) or math.isfinite(b))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
