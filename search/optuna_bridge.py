"""Optuna's TPE, GP, CMA-ES and NSGA-II over a study's history.

- TPE: Bergstra et al. 2011, https://papers.nips.cc/paper/4443; multivariate with a constant liar, Optuna 5's default.
- GP: Gaussian process with expected improvement (Optuna's own, Matern 5/2 kernel).
- CMA-ES: Hansen 2016, https://arxiv.org/abs/1604.00772.
- NSGA-II: Deb et al. 2002, https://doi.org/10.1109/4235.996017.

The sampler keeps the finished and running trials in an in-memory Optuna study, filled from the history at first use and
brought up to date at each call. Parameters that are active together are modelled together, parents first. What GP,
CMA-ES and NSGA-II have no model for (parameters inside a choice; for CMA-ES, choices as well) TPE suggests.

A suggestion depends on the history and on the trial's ``rng`` only, so a resumed study goes on as it would have.
The state that CMA-ES and NSGA-II carry from one generation to the next is never stored: the trial at which it changed
has the number of trials finished by then among its attributes, and is worked through again when the study is rebuilt.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

from velodrome.errors import UsageError
from velodrome.search.optuna_mirror import JOINT, Mirror
from velodrome.search.optuna_samplers import MAX_STEPS, MULTI_OBJECTIVE, check_options, make, models, one_thread
from velodrome.search.optuna_space import Code, coding, is_constant
from velodrome.search.optuna_table import quiet
from velodrome.types import Params, ParamValue, Suggestion

if TYPE_CHECKING:
    import numpy as np
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

    from velodrome.search.domains import Domain
    from velodrome.search.history import History

_CONSTRAINT_TRIES = 5


class OptunaSampler:
    """One of Optuna's samplers as a ``Sampler``.

    Args:
        kind: ``tpe``, ``gp``, ``cmaes`` or ``nsga2``.
        seed: Not used, for all chance comes from each trial's ``rng``; the registry gives every sampler one.
        options: Options of Optuna's sampler.

    Raises:
        UsageError: If the sampler, or one of its options, does not exist or makes no sense.
    """

    def __init__(self, kind: str, seed: int = 0, **options: ParamValue) -> None:
        check_options(kind, options)
        self.kind = kind
        self._options = options
        self._mirror: Mirror | None = None

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """The configuration of trial ``number``. For a define-by-run objective: no parameters yet.

        A configuration that breaks a constraint is asked for again a few times, then replaced by a random one.

        Raises:
            UsageError: If the goal has several metrics and the sampler is for one.
            SpaceError: If nothing meets the constraints.
        """
        mirror = self._updated(history, number)
        if history.is_define_by_run:
            ask = self._ask(mirror, number, rng)
            joint = ask.joint(mirror.modelled())
            attrs = ask.attrs()
            return Suggestion({}, {**attrs, JOINT: json.dumps(joint)} if joint else attrs)
        for _ in range(_CONSTRAINT_TRIES):
            ask = self._ask(mirror, number, rng)
            params = _propose(mirror, ask)
            attrs = ask.attrs()
            if not history.space.constraints or history.space.violated(params) is None:
                return Suggestion(params, attrs)
        return Suggestion(history.space.sample(rng), attrs)

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """The value of one parameter: that of the joint sample if it lies in ``domain``, else one by itself.

        A parameter that the trial has already keeps its value.

        Raises:
            SpaceError: If the domain makes no sense.
        """
        domain.validate(name)
        suggestion = history.running[number]
        if name in suggestion.params:
            return suggestion.params[name]
        if is_constant(domain):
            return domain.from_unit(0.5)
        mirror = self._updated(history)
        code = json.loads(str(suggestion.attrs.get(JOINT, "{}"))).get(name)
        if code is not None:
            value = mirror.layout.codings[name].decode(code)
            if domain.contains(value):
                return value
        told = coding(domain, mirror.max_steps)
        return told.decode(self._ask(mirror, number, rng).alone(name, told.distribution, name in mirror.modelled()))

    def _updated(self, history: History, number: int | None = None) -> Mirror:
        """The mirror of this history, up to date, without trial ``number``."""
        if self._mirror is None or not self._mirror.fits(history):
            goal = history.goal
            if not goal.is_single and self.kind not in MULTI_OBJECTIVE:
                raise UsageError(
                    f"The sampler {self.kind!r} is for goals of one metric", given=str(goal),
                    allowed=f"for several metrics: {', '.join(MULTI_OBJECTIVE)}, or a sampler that does not learn",
                    hint="--sampler nsga2",
                )
            self._mirror = Mirror(
                history, max_steps=MAX_STEPS.get(self.kind, math.inf),
                needs_finite=self.kind == "gp" or (self.kind == "tpe" and not goal.is_single),
                counts_pruned=self.kind == "tpe", replay=self._replay,
            )
        self._mirror.update(number)
        return self._mirror

    def _replay(self, mirror: Mirror, number: int) -> None:
        """Works through a suggestion again that changed the sampler's state; what it would suggest does not matter."""
        ask = self._ask(mirror, number, None)
        ask.joint(mirror.modelled() if mirror.history.is_define_by_run else mirror.layout.groups[0].distributions)
        ask.attrs()

    def _ask(self, mirror: Mirror, number: int, rng: np.random.Generator | None) -> _Ask:
        return _Ask(mirror, self.kind, self._options, number, rng)


def _propose(mirror: Mirror, ask: _Ask) -> Params:
    """A whole configuration, group by group."""
    codings = mirror.layout.codings
    params: Params = {}
    for group in mirror.layout.groups:
        if not group.parent:
            codes = ask.joint(group.distributions)
        elif group.parent in params and codings[group.parent].encode(params[group.parent]) in group.options:
            codes = ask.joint(group.distributions, is_conditional=True)
        else:
            continue
        params |= {name: codings[name].decode(code) for name, code in codes.items()} | group.constants
    return {name: params[name] for name in codings if name in params}


class _Ask:
    """One suggestion in the making: samplers made for it alone, and the draft that they work at.

    Args:
        mirror: The trials.
        kind: The sampler.
        options: Its options.
        number: The trial's number.
        rng: Where the seeds come from; without one they are 0.
    """

    def __init__(
        self, mirror: Mirror, kind: str, options: dict[str, ParamValue], number: int, rng: np.random.Generator | None
    ) -> None:
        self._mirror = mirror
        self._kind = kind
        self._draft = mirror.table.new_draft(number)
        self._notes_before = mirror.table.notes_on_study
        seed, fallback_seed, alone_seed = (0, 0, 0) if rng is None else rng.integers(2**32, size=3).tolist()
        is_single = mirror.history.goal.is_single
        multivariate = options.get("multivariate")
        is_joint = kind != "tpe" or (is_single if multivariate is None else bool(multivariate))
        main = make(kind, seed, options)
        # NSGA-II mutates a parameter by drawing it alone, from the same seed that it decides by; it needs another.
        self._main = _Source(main, make(kind, alone_seed, options) if kind == "nsga2" else main, is_joint)
        if kind == "tpe":
            self._fallback = self._main
        else:
            tpe = make("tpe", fallback_seed, {})
            self._fallback = _Source(tpe, tpe, is_single)

    def joint(self, distributions: dict[str, BaseDistribution], *, is_conditional: bool = False) -> dict[str, Code]:
        """Codes for parameters that are active together, from a joint model where the sampler has one."""
        mine: dict[str, BaseDistribution] = {}
        others: dict[str, BaseDistribution] = {}
        for name, distribution in distributions.items():
            has_model = not is_conditional and models(self._kind, distribution)
            (mine if has_model else others)[name] = distribution
        return self._sample(mine, self._main) | self._sample(others, self._fallback)

    def alone(self, name: str, distribution: BaseDistribution, is_modelled: bool) -> Code:
        """A code for a parameter by itself."""
        source = self._main if is_modelled and models(self._kind, distribution) else self._fallback
        return self._sample({name: distribution}, source._replace(is_joint=False))[name]

    def attrs(self) -> dict[str, ParamValue]:
        """What to store with the suggestion, now that it is made."""
        return self._mirror.keep(self._draft, moved=self._mirror.table.notes_on_study != self._notes_before)

    def _sample(self, distributions: dict[str, BaseDistribution], source: _Source) -> dict[str, Code]:
        if not distributions:
            return {}
        study = self._mirror.table.study(source.together)
        with quiet(), one_thread(source.together):
            codes = source.together.sample_relative(study, self._draft, distributions) if source.is_joint else {}
            for name, distribution in distributions.items():
                if name not in codes:
                    codes[name] = source.alone.sample_independent(study, self._draft, name, distribution)
        return codes


class _Source(NamedTuple):
    """Where codes come from."""

    together: BaseSampler
    """Samples parameters jointly."""
    alone: BaseSampler
    """Samples those one by one that the joint sample lacks."""
    is_joint: bool
    """Whether to sample jointly at all."""
