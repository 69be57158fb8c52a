"""Weighted dominant-resource fairness over decayed usage: levels, and how unequal they are.

A tenant's *level* is what it has used of the machine, decayed, over its weight. Usage grows with the tenant's dominant
share (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011): a second of all GPUs counts as much as a second of all
cores. Decisions look one quantum ahead: with usage ``u``, weight ``w``, share ``s`` and quantum ``q``, the projected
level is ``p = (u + q s) / w``, and the inequality of an allocation is the weighted variance of the projected levels

    V = sum_i w_i (p_i - m)^2,    m = sum_i w_i p_i / sum_i w_i.

At a given moment V depends on who holds what and on nothing else. A transfer is made only where it lowers V, so no
allocation can come back: that is why there is no ping-pong (``docs/decisions/ledger.md``).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_RELATIVE = 1e-9
"""Differences in inequality below this part are rounding."""


class Balance(Generic[K]):
    """The levels of all who compete.

    Args:
        weights: Of each.
        usages: Of each, in seconds of the whole machine, decayed to now; 0 where missing.
        shares: The dominant share that each holds; 0 where missing.
        horizon_s: How far ahead to look: the quantum.
    """

    def __init__(
        self, weights: Mapping[K, float], usages: Mapping[K, float], shares: Mapping[K, float], horizon_s: float
    ) -> None:
        self._weights, self._usages, self._horizon_s = weights, usages, horizon_s
        self._shares = {key: shares.get(key, 0.0) for key in weights}
        self._sum_weights = math.fsum(weights.values())

    def level(self, key: K) -> float:
        """The projected level."""
        return self._level(key, self._shares[key])

    def inequality(self, changed: Mapping[K, float] | None = None) -> float:
        """V, where some hold other shares than they do.

        Args:
            changed: The shares of those.
        """
        if len(self._weights) < 2:
            return 0.0
        shares = self._shares if changed is None else {**self._shares, **changed}
        levels = [(weight, self._level(key, shares[key])) for key, weight in self._weights.items()]
        mean = sum(weight * level for weight, level in levels) / self._sum_weights
        return sum(weight * (level - mean) ** 2 for weight, level in levels)

    def _level(self, key: K, share: float) -> float:
        return (self._usages.get(key, 0.0) + self._horizon_s * share) / self._weights[key]


def is_lower(after: float, before: float) -> bool:
    """Whether an inequality is strictly lower, by more than rounding."""
    return after < before - _RELATIVE * max(1.0, before)


def decayed(usage: float, share: float, elapsed_s: float, half_life_s: float) -> float:
    """Usage after some time with a constant share: the old decays, the new comes on top and decays too.

    Args:
        usage: Before, in seconds of the whole machine.
        share: The dominant share that was held all the time.
        elapsed_s: How long; less than nothing (a clock that was set back) is nothing.
        half_life_s: In which usage counts half.

    Returns:
        The exact integral; it never exceeds ``half_life_s / ln 2`` by a share of 1.
    """
    elapsed_s = max(0.0, elapsed_s)
    kept: float = 0.5 ** (elapsed_s / half_life_s)
    return usage * kept + share * (half_life_s / math.log(2)) * (1.0 - kept)


def entry_usage(usage: float, weight: float, others: Iterable[tuple[float, float]]) -> float:
    """The usage that somebody is taken to have who begins to compete: a penalty against bursts.

    Without it, whoever was away for long, or wanted little, would get everything until the level is that of the others.

    Args:
        usage: Its own.
        weight: Its own.
        others: Share and level of each that competes already.

    Returns:
        What makes its level the mean of theirs, by the shares that they hold; its own usage where that is more.
    """
    held = [(share, level) for share, level in others if share > 0]
    if not held:
        return usage
    mean = math.fsum(share * level for share, level in held) / math.fsum(share for share, _ in held)
    return max(usage, weight * mean)
