"""Weight sharing as stages of one study: train a supernet, search with its weights, train the winners alone.

``staged(space)`` is the space with a parameter ``stage`` around it, and the sampler ``sharing`` walks the stages:

1. ``supernet``: one trial, which trains the shared weights (``supernet``); its last checkpoint has them;
2. ``inherited``: candidates that evolution suggests, each judged with the weights it inherits;
3. ``alone``: the best of them, each trained by itself.

In the last two, ``trial.restore()`` gives the supernet's last checkpoint. The objective does what the stage says, and
ends the trials of the first two by ``velo.Pruned``, so that only those that were trained alone count as results. While
the supernet trains, further workers train random nets alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from velodrome.errors import SpaceError, UsageError
from velodrome.search.arch.names import STAGES
from velodrome.search.arch.tried import Tried
from velodrome.search.arch.variation import mutate, with_value
from velodrome.search.arch.warm import Warm
from velodrome.search.domains import Choice, Domain
from velodrome.search.history import History
from velodrome.search.options import check_whole
from velodrome.search.sampler import BEGINS_FROM, LENDS, Exhausted
from velodrome.search.sequence import needs_space
from velodrome.search.space import Space
from velodrome.types import Params, ParamValue, Suggestion, TrialState

if TYPE_CHECKING:
    import numpy as np

STAGE = "stage"
_TRIES = 1_000


def staged(space: Space) -> Space:
    """The space with a stage around it: ``net`` is called ``stage.net``, and is there in all stages but the first.

    Raises:
        SpaceError: If the space has no net, or several.
    """
    if len(space.nets) != 1:
        raise SpaceError("Stages are for a space with one net", given=", ".join(space.nets) or "no net",
                         allowed="Space(net=Net(...), ...)")
    inside, constraints = dict(space.roots), []
    for text in space.to_json()["constraints"]:
        for name in sorted(space.domains, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", f"{STAGE}.{name}", text)  # noqa: PLW2901 - step by step
        constraints.append(text)
    return Space({STAGE: Choice.of(STAGES, [{}, inside, inside])}, constraints=constraints)


def is_staged(space: Space) -> bool:
    """Whether a space is one that ``staged`` made."""
    stage = space.domains.get(STAGE)
    return isinstance(stage, Choice) and stage.options == STAGES


def unstaged(params: Params) -> Params:
    """A configuration of ``staged(space)`` as one of ``space``; empty for the supernet."""
    return {name.removeprefix(f"{STAGE}."): value for name, value in params.items() if name != STAGE}


class SharingSampler:
    """Walks the stages; after the last winner there is nothing left.

    Args:
        candidates: How many nets are judged with inherited weights.
        winners: How many of them are trained alone.
        population: Of the evolution.
        sample: How many of the population compete to be a parent.
        seed: Of the pool that ``warm`` ranks.
        warm: Zero-cost proxies; the first candidates are then the best by them of a random pool (``warm.Warm``).
        pool: The size of the pool.
    """

    def __init__(
        self, candidates: int = 50, winners: int = 5, population: int = 20, sample: int = 5, *, seed: int = 0,
        warm: str = "", pool: int = 1000,
    ) -> None:
        for name, value in (("candidates", candidates), ("winners", winners), ("sample", sample)):
            check_whole("sharing", name, value, at_least=1)
        check_whole("sharing", "population", population, at_least=2)
        self._candidates, self._winners, self._population, self._sample = candidates, winners, population, sample
        self._warm = Warm("sharing", warm, pool, seed, lambda space, rng: _random(space, STAGES[1], rng))
        self._tried = Tried("sharing")

    def check(self, space: Space) -> None:
        """Raises UsageError if the space has no stages."""
        if not is_staged(space):
            raise UsageError("The sampler 'sharing' needs a space with stages", given=", ".join(space.domains),
                             allowed="velo.staged(space)")

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """The next trial of the stage that the study is in.

        Raises:
            Exhausted: If the winners are trained.
            UsageError: If the space has no stages.
        """
        tried, space = self._tried.update(history), history.space
        self.check(space)
        if any(s.params[STAGE] == STAGES[0] for s in history.running.values()):
            return Suggestion(_random(space, STAGES[2], rng))
        finished = list(history.finished())
        trained = [t.number for t in finished if t.params[STAGE] == STAGES[0] and t.state is not TrialState.FAILED]
        if not trained:
            return Suggestion({STAGE: STAGES[0]}, {LENDS: True})
        inherits: dict[str, ParamValue] = {BEGINS_FROM: trained[0]}
        judged = [entry for entry in tried.entries if entry.params[STAGE] == STAGES[1]]
        judging = [s for s in history.running.values() if s.params[STAGE] == STAGES[1]]
        if len(judged) + len(judging) < self._candidates or not judged:
            if len(judged) < self._population:
                return Suggestion(self._warm.first(tried, space, rng), inherits)

            def child(attempt: int) -> Params:
                ranked = tried.order(judged)[: self._population]
                drawn = rng.choice(len(ranked), min(self._sample, len(ranked)), replace=False).tolist()
                return mutate(judged[ranked[min(drawn)]].params, space, rng, 1 + attempt // 10, fixed=(STAGE,))

            return Suggestion(tried.fresh(child), inherits)
        best = [with_value(judged[i].params, space, STAGE, STAGES[2], rng) for i in tried.order(judged)]
        for winner in best[: self._winners]:
            if not tried.knows(space.structure(winner)):
                return Suggestion(winner, inherits)
        raise Exhausted(f"the best {self._winners} of {len(judged)} candidates are trained")

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """Not possible: raises UsageError."""
        raise needs_space("sharing")


def _random(space: Space, stage: str, rng: np.random.Generator) -> Params:
    """A random configuration of one stage."""
    broken = None
    for _ in range(_TRIES):
        params = with_value(space.sample(rng), space, STAGE, stage, rng)
        broken = space.violated(params)
        if broken is None:
            return params
    assert broken is not None
    raise space.unsatisfied(broken, _TRIES)
