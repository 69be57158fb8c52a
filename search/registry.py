"""Samplers and schedulers by name, with options: what ``--sampler tpe:n_startup_trials=20`` means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from velodrome.errors import UsageError, nearest
from velodrome.search.options import parse
from velodrome.types import Goal, ParamValue

if TYPE_CHECKING:
    from velodrome.search.sampler import Sampler
    from velodrome.search.scheduler import Scheduler

AUTO = "auto"
"""The sampler that a study gets where none is named: which one that is, ``choose_sampler`` says."""

SAMPLERS = (
    "random", "grid", "sobol", "tpe", "gp", "cmaes", "nsga2", "evolution", "local", "predictor", "sharing", "scalar",
)
"""The names that ``make_sampler`` knows."""

SCHEDULERS = ("none", "median", "asha", "hyperband", "pbt")
"""The names that ``make_scheduler`` knows."""

_OPTIONS: dict[str, tuple[str, ...]] = {
    "random": (), "grid": ("points",), "sobol": (),
    "evolution": ("population", "sample", "crossover", "warm", "pool"), "local": ("start", "warm", "pool"),
    "sharing": ("candidates", "winners", "population", "sample", "warm", "pool"),
    "predictor": ("start", "candidates", "encoding", "warm", "pool"),
    "none": (), "median": ("warmup_steps", "min_trials"), "asha": ("min_steps", "reduction", "max_steps", "type"),
    "hyperband": ("brackets", "min_steps", "reduction", "max_steps", "type"),
    "pbt": ("population", "interval", "quantile", "resample", "explore"),
}
"""The options of each, where it is this file that checks their names."""


def learns(sampler: str) -> bool:
    """Whether the sampler of this name suggests by the results so far, so that it should not be asked early."""
    return sampler.partition(":")[0] not in ("random", "grid", "sobol")


def make_sampler(text: str, *, seed: int) -> Sampler:
    """The sampler that a text such as ``"grid:points=7"`` or ``"tpe"`` means.

    Args:
        text: A name of ``SAMPLERS``, with options after a colon where wanted.
        seed: The study's seed.

    Raises:
        UsageError: If the name or an option is unknown, or an option's value makes no sense.
    """
    name, options = _parse("sampler", text, (AUTO, *SAMPLERS))
    match name:
        case "auto":
            raise UsageError(f"What the sampler {AUTO!r} stands for depends on the study", given=repr(text),
                             allowed=", ".join(SAMPLERS))
        case "random":
            from velodrome.search.random_sampler import RandomSampler

            return RandomSampler()
        case "grid":
            from velodrome.search.grid import GridSampler

            return GridSampler(**_loose(options))
        case "sobol":
            from velodrome.search.sobol import SobolSampler

            return SobolSampler(seed=seed)
        case "evolution":
            from velodrome.search.arch.evolution import EvolutionSampler

            return EvolutionSampler(seed=seed, **_loose(options))
        case "local":
            from velodrome.search.arch.local_search import LocalSearchSampler

            return LocalSearchSampler(seed=seed, **_loose(options))
        case "scalar":
            from velodrome.search.scalarized import ScalarizedSampler

            inner = options.pop("sampler", "tpe")
            _parse("sampler", str(inner), [name for name in SAMPLERS if name not in ("scalar", "sharing")])
            rest = ",".join(f"{key}={_text(value)}" for key, value in options.items())
            return ScalarizedSampler(lambda: make_sampler(f"{inner}:{rest}" if rest else str(inner), seed=seed))
        case "sharing":
            from velodrome.search.arch.stages import SharingSampler

            return SharingSampler(seed=seed, **_loose(options))
        case "predictor":
            from velodrome.search.arch.predictor_sampler import PredictorSampler

            return PredictorSampler(seed=seed, **_loose(options))
        case _:
            from velodrome.search.optuna_bridge import OptunaSampler

            return OptunaSampler(name, seed=seed, **_loose(options))


def make_scheduler(text: str, goal: Goal, *, seed: int = 0) -> Scheduler:
    """The scheduler that a text such as ``"asha:min_steps=1,reduction=3"`` means; it goes by the goal's first metric.

    Args:
        text: A name of ``SCHEDULERS``, with options after a colon where wanted.
        goal: What the study looks for.
        seed: The study's seed.

    Raises:
        UsageError: If the name or an option is unknown, or an option's value makes no sense.
    """
    name, options = _parse("scheduler", text, SCHEDULERS)
    match name:
        case "none":
            from velodrome.search.no_scheduler import NoScheduler

            return NoScheduler()
        case "median":
            from velodrome.search.median import MedianStopping

            return MedianStopping(goal.direction, **_loose(options))
        case "hyperband":
            from velodrome.search.hyperband import Hyperband

            return Hyperband(goal.direction, **_loose(options))
        case "pbt":
            from velodrome.search.pbt import PBT

            return PBT(goal.direction, seed=seed, **_loose(options))
        case _:
            from velodrome.search.asha import ASHA

            return ASHA(goal.direction, **_loose(options))


def _parse(kind: str, text: str, names: Sequence[str]) -> tuple[str, dict[str, ParamValue]]:
    name, options = parse(text)
    if name not in names:
        raise UsageError(f"There is no such {kind}", given=repr(text), allowed=", ".join(names),
                         hint=nearest(name, names))
    allowed = _OPTIONS.get(name)
    for option in options:
        if allowed is not None and option not in allowed:
            raise UsageError(f"The {kind} {name!r} has no option {option!r}", given=repr(text),
                             allowed=", ".join(allowed) or "no options", hint=nearest(option, allowed))
    return name, options


def _text(value: ParamValue) -> str:
    """An option's value as it is written."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _loose(options: Mapping[str, ParamValue]) -> dict[str, Any]:
    """The options as keyword arguments; the classes check their values."""
    return dict(options)
