"""Optuna's samplers and those of their options that velodrome passes on.

A sampler object is made anew for every suggestion, from that suggestion's seed: all that Optuna's samplers keep between
suggestions is a cache (the search space seen so far, a Gaussian process's last kernel) or stands in the trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, TPESampler

from velodrome.errors import UsageError, nearest
from velodrome.types import ParamValue


class _Option(NamedTuple):
    """What an option may be: a bool, or a number of this type from ``low`` to ``high``."""

    type: type[bool] | type[int] | type[float]
    low: float = 0
    high: float = float("inf")

    def accepts(self, value: ParamValue) -> bool:
        if self.type is bool or isinstance(value, bool):
            return self.type is bool and isinstance(value, bool)
        allowed = (int, float) if self.type is float else (int,)
        return isinstance(value, allowed) and self.low <= value <= self.high

    def __str__(self) -> str:
        if self.type is bool:
            return "true or false"
        kind = "a whole number" if self.type is int else "a number"
        return f"{kind} from {self.low:g}" + ("" if self.high == float("inf") else f" to {self.high:g}")


_FLAG = _Option(bool)
_COUNT = _Option(int, 0)
_SHARE = _Option(float, 0, 1)

_SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": TPESampler, "gp": GPSampler, "cmaes": CmaEsSampler, "nsga2": NSGAIISampler,
}
_OPTIONS: dict[str, dict[str, _Option]] = {
    "tpe": {
        "n_startup_trials": _COUNT, "n_ei_candidates": _Option(int, 1), "multivariate": _FLAG, "constant_liar": _FLAG,
    },
    "gp": {"n_startup_trials": _Option(int, 1), "deterministic_objective": _FLAG},
    "cmaes": {
        "n_startup_trials": _COUNT, "popsize": _Option(int, 4), "consider_pruned_trials": _FLAG, "lr_adapt": _FLAG,
        "use_separable_cma": _FLAG,
    },
    "nsga2": {
        "population_size": _Option(int, 2), "mutation_prob": _SHARE, "crossover_prob": _SHARE, "swapping_prob": _SHARE,
    },
}
_FIXED: dict[str, dict[str, Any]] = {
    "tpe": {}, "gp": {"warn_independent_sampling": False}, "cmaes": {"warn_independent_sampling": False}, "nsga2": {},
}
KINDS = tuple(_SAMPLERS)
MAX_STEPS = {"gp": 10_000}
"""The most steps of a parameter that a sampler can take: the GP sampler makes an array of all of them."""
MULTI_OBJECTIVE = ("tpe", "nsga2")
"""The samplers for goals of several metrics."""


def check_options(kind: str, options: dict[str, ParamValue]) -> None:
    """Does nothing if this sampler exists and takes these options.

    Raises:
        UsageError: If not; it names the option, and what is allowed.
    """
    if kind not in _SAMPLERS:
        raise UsageError("There is no such Optuna sampler", given=repr(kind), allowed=", ".join(KINDS),
                         hint=nearest(kind, KINDS))
    known = _OPTIONS[kind]
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"The sampler {kind!r} has no option {name!r}", given=f"{name}={value!r}",
                             allowed=", ".join(known), hint=nearest(name, known))
        if not known[name].accepts(value):
            raise UsageError(f"The sampler {kind!r} can't take this {name!r}", given=repr(value),
                             allowed=str(known[name]))
    try:
        make(kind, 0, options)
    except ValueError as error:
        raise UsageError(f"The sampler {kind!r} can't take these options together", given=repr(options),
                         allowed=str(error)) from None


def make(kind: str, seed: int, options: dict[str, ParamValue]) -> BaseSampler:
    """A sampler for one suggestion. ``seed`` is below 2**32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _SAMPLERS[kind](seed=seed, **options, **_FIXED[kind])


@contextmanager
def one_thread(sampler: BaseSampler) -> Iterator[None]:
    """Lets a Gaussian process use one of torch's threads: more fight with the workers for cores, and are no faster."""
    if not isinstance(sampler, GPSampler):
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def models(kind: str, distribution: BaseDistribution) -> bool:
    """Whether the sampler has a joint model for such a parameter. CMA-ES has none for choices."""
    return kind != "cmaes" or not isinstance(distribution, CategoricalDistribution)
