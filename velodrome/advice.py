"""What to try after a failure: plain sentences from the failure and the parameters that may be to blame."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from velodrome.types import Failure, FailureClass, Params, ParamValue

_SIZES = frozenset({
    "batch", "batchsize", "width", "hidden", "units", "layers", "depth", "dim", "dims", "channels", "filters", "heads",
    "size", "embed", "embedding", "length", "context", "neurons", "nodes", "members", "replay", "buffer", "envs",
})
_RATES = frozenset({"lr", "eta", "rate", "momentum", "alpha", "learning"})
_NO_RATES = frozenset({"dropout", "drop", "decay"})
_NUMBERS = (int, float)


def suspects(kind: FailureClass, params: Params) -> list[str]:
    """The parameters whose names suggest that they may have caused such a failure: sizes, or rates."""
    wanted = {FailureClass.OOM: _SIZES, FailureClass.DIVERGED: _RATES}.get(kind, frozenset())
    return [
        name for name, value in params.items()
        if isinstance(value, _NUMBERS) and not isinstance(value, bool) and _words(name) & wanted
        and not (kind is FailureClass.DIVERGED and _words(name) & _NO_RATES)
    ]


def for_failure(
    failure: Failure, blamed: Mapping[str, ParamValue], ranges: Mapping[str, tuple[ParamValue, ParamValue]],
    objective: str, *, learns: bool,
) -> Iterator[str]:
    """What to try after a failure.

    Args:
        failure: What went wrong.
        blamed: The trial's values of ``suspects``.
        ranges: For those of them that completed trials had: lowest and highest value there.
        objective: The study's objective, as ``velo sweep`` takes it.
        learns: Whether the study's sampler goes by results.
    """
    elsewhere = (
        "the sampler has taken note: it will look elsewhere" if learns
        else "this sampler does not learn: --sampler tpe would keep away from there"
    )
    match failure.kind:
        case FailureClass.OOM:
            yield from (f"smaller {_described(name, value, ranges)}" for name, value in blamed.items())
            yield "more memory for each trial (--resources memory=8GiB), or fewer at once (--workers)"
            yield elsewhere
        case FailureClass.DIVERGED:
            yield from (f"lower {_described(name, value, ranges)}" for name, value in blamed.items())
            yield "clip gradients, or guard logarithms, divisions and square roots against 0"
            yield elsewhere
        case FailureClass.LOST:
            yield "the trial took its worker down every time it ran, or something on the machine kills workers"
            yield "look into the machine's log (dmesg) for the out-of-memory killer"
        case FailureClass.HUNG:
            yield "report more often, or give trials more time between two signs of life: --hung-after 30m"
            yield "what it waited for may be a lock, a download, or a worker process of its own that died"
        case FailureClass.USER | FailureClass.PREEMPTED:
            yield from _for_user(failure, objective)


def _for_user(failure: Failure, objective: str) -> Iterator[str]:
    place = f"{failure.file}:{failure.line}" if failure.file else "the objective"
    if failure.exception == "ModuleNotFoundError":
        yield "install that module into the environment that velo runs in"
    elif failure.exception == "SystemExit":
        yield f"raise an exception at {place} instead, or velodrome.Pruned to give up a trial that is not worth it"
    elif failure.message.startswith("crashed its process"):
        yield "a native library crashed: try another version of it, or one thread"
    else:
        yield f"mend {place}"
    if objective:
        yield f"run it in a debugger: put breakpoint() there, then velo sweep {objective} --executor inline --trials 1"


def _described(name: str, value: ParamValue, ranges: Mapping[str, tuple[ParamValue, ParamValue]]) -> str:
    shown = f"{name}: it was {_number(value)}"
    if name in ranges:
        low, high = ranges[name]
        shown += f", completed trials had {_number(low)} to {_number(high)}"
    return shown


def _number(value: ParamValue) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(name: str) -> set[str]:
    """``optimizer.learning_rate`` -> optimizer, learning, rate; ``batchSize`` -> batch, size."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)}
