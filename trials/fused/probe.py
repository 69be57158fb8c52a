"""Whether fusing pays on this machine: measured in a short run, not believed.

What is compared is n processes that train a member each with n processes that train a group each (on a GPU: with one
group, for the processes share the device). So it is enough to measure in one process; how several get on with each
other is taken to be the same for both ways. What a group costs before it trains counts as well.

It stops early: groups grow only as long as that pays, and a difference that is large is measured but twice.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from velodrome.clock import Clock, SystemClock
from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.fused import Fused
from velodrome.trials.fused.member import Member
from velodrome.trials.training_job import TrainingJob

_SIZES = (8, 32, 128, 512)
_PAYS = 1.05
"""Fused, if it is at least so many times as quick."""

_SLICES = 5
"""Each way is measured so often, by turns; the median counts."""

_FALLS = 0.9
"""A group that makes less than this part of what a smaller one made: still larger ones are not tried."""

_CLEAR = 1.5
"""So many times as quick, or as slow, twice in a row: that will not turn."""

_ROUGH_PAYS, _LONG_S = 1.2, 0.01
"""bfloat16 is worth a word where it is so many times as quick; steps below so many seconds are mostly overhead."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a probe found.

    Attributes:
        is_fused: Whether to fuse.
        group_size: Members of one group; 1 where it does not pay.
        figures: Model-steps per second of one process, by members that it trains together; 1 is alone.
        reason: A sentence for the study's decisions.
    """

    is_fused: bool
    group_size: int
    figures: dict[int, float]
    reason: str


@dataclass(frozen=True, slots=True)
class Timing:
    """What was measured of one way to train.

    Attributes:
        rate: Model-steps per second, once it runs.
        start_s: Until it does, beyond what its first steps take.
    """

    rate: float
    start_s: float = 0.0


def probe(
    job: TrainingJob, members: Sequence[Member], *, num_processes: int, device: str = "cpu", budget_s: float = 1.0,
    clock: Clock | None = None,
) -> Choice:
    """Measures some members alone and in groups.

    Args:
        job: What they train.
        members: Of one group of ``partition``.
        num_processes: How many can train side by side.
        device: ``"cpu"`` or ``"cuda"``.
        budget_s: About how long to measure at most.
        clock: Measures.
    """
    clock = clock or SystemClock()
    most = max(1, -(-len(members) // num_processes)) if device == "cpu" else len(members)
    competing = 1 if device == "cpu" else num_processes
    sizes = sorted({1, *(size for size in _SIZES if size < most), most})
    slice_s = budget_s / (_SLICES * len(sizes))
    alone = Alone(job, members[0], device)
    for train in (alone.step, Fused(job, members[:1], device).step):
        train(2)  # the first steps of a process do what is done once
    ways: dict[int, Callable[[int], None]] = {1: alone.step}
    starts, rates = {1: 0.0}, {1: [_rate(alone.step, slice_s, device, clock)]}
    for size in sizes[1:]:
        started = clock.monotonic()
        ways[size] = Fused(job, members[:size], device).step
        ways[size](1)
        starts[size] = clock.monotonic() - started
        rates[size] = [size * _rate(ways[size], slice_s, device, clock)]
        if rates[size][0] < _FALLS * max(found[0] for other, found in rates.items() if other > 1):
            break
    began = clock.monotonic()
    while len(rates[1]) < _SLICES and not is_clear(rates, competing) and clock.monotonic() - began < budget_s:
        for size, step in ways.items():
            rates[size].append(size * _rate(step, slice_s, device, clock))
    timings = {size: Timing(statistics.median(rates[size]), starts[size]) for size in ways}
    choice = choose(timings, alone.length.num_steps, competing)
    return replace(choice, reason=choice.reason + _in_bfloat16(job, members, device, choice, timings, clock))


def is_clear(rates: Mapping[int, Sequence[float]], competing: int = 1) -> bool:
    """Whether fusing is by far quicker, or slower, in each of at least two rounds.

    Args:
        rates: Model-steps per second by round, by members that are trained together.
        competing: How many members train alone in the time of one group.
    """
    fused = [max(found) for found in zip(*(rates[size] for size in rates if size > 1), strict=True)]
    ratios = [rate / (alone * competing) for rate, alone in zip(fused, rates[1], strict=bool(fused))]
    return len(ratios) > 1 and (min(ratios) > _CLEAR or max(ratios) < 1.0 / _CLEAR)


def _in_bfloat16(
    job: TrainingJob, members: Sequence[Member], device: str, choice: Choice, timings: Mapping[int, Timing],
    clock: Clock,
) -> str:
    """A word on how quick it would be in bfloat16, where that may pay and is quicker; empty elsewhere."""
    size = choice.group_size
    has_it = torch.cuda.is_bf16_supported() if device != "cpu" else "avx512_bf16" in _features()
    if job.precision != "float32" or not has_it or size / timings[size].rate < _LONG_S:
        return ""
    rough = copy.copy(job)
    rough.__dict__.update(job.__dict__, precision="bfloat16")
    step = Fused(rough, members[:size], device).step if size > 1 else Alone(rough, members[0], device).step
    step(1)
    ratio = statistics.median(size * _rate(step, _LONG_S, device, clock) for _ in range(3)) / timings[size].rate
    return f'; {ratio:.1f} times as many with precision = "bfloat16"' if ratio >= _ROUGH_PAYS else ""


def _features() -> list[str]:
    """What the processor has."""
    return [name for name, has in torch.cpu.get_capabilities().items() if has]


def choose(timings: Mapping[int, Timing], num_steps: int, competing: int = 1) -> Choice:
    """What to do, from what was measured.

    Args:
        timings: By members that are trained together; 1 is alone.
        num_steps: Of a member's whole training.
        competing: How many members train alone in the time of one group.
    """
    figures = {
        size: size * num_steps / (timing.start_s + size * num_steps / timing.rate) for size, timing in timings.items()
    }
    alone = figures[1] * competing
    best = max((size for size in figures if size > 1), key=lambda size: figures[size], default=1)
    ratio = figures[best] / alone if best > 1 else 0.0
    pool = f"{alone:,.0f} model-steps/s" + (f" by {competing} processes" if competing > 1 else "")
    if ratio >= _PAYS:
        reason = f"fused by {best}: {figures[best]:,.0f} model-steps/s, {ratio:.1f} times as many as alone ({pool})"
        return Choice(True, best, figures, reason)
    if best > 1:
        reason = f"each alone: {pool}, fused by {best} only {figures[best]:,.0f} ({ratio:.2f} times)"
    else:
        reason = "each alone: there is nobody to be fused with"
    return Choice(False, 1, figures, reason)


def _rate(step: Callable[[int], None], seconds: float, device: str, clock: Clock) -> float:
    """Steps per second."""
    num_steps, started, passed = 0, clock.monotonic(), 0.0
    while passed < seconds or not num_steps:
        step(2)
        num_steps += 2
        if device != "cpu":
            torch.cuda.synchronize()
        passed = clock.monotonic() - started
    return num_steps / max(passed, 1e-9)
