"""What the grid and the Sobol sampler share: trial n gets the n-th point of a sequence that meets the constraints.

The point depends on the trial's number alone. A point that turned out to be a duplicate is skipped, and so are as many
points for every later trial; that count travels in the suggestions' attributes, for a resumed study to go on with.
"""

from __future__ import annotations

from collections.abc import Callable

from velodrome.errors import UsageError
from velodrome.search.constraints import Condition
from velodrome.search.history import History
from velodrome.search.sampler import Exhausted
from velodrome.search.space import Space
from velodrome.types import Params, Suggestion

SKIPPED = "skipped"
"""The attribute that counts the skipped points; absent while there are none."""


class PointSequence:
    """Hands out the points of a sequence.

    Args:
        space: Whose constraints the points must meet.
        point: Point ``index`` of the sequence, from 0; raises ``Exhausted`` past its end.
        max_tries: How many points in a row may break a constraint.
    """

    def __init__(self, space: Space, point: Callable[[int], Params], *, max_tries: int) -> None:
        self._space = space
        self._point = point
        self._max_tries = max_tries
        self._next_index = 0
        self._next_rank = 0
        self._skipped: int | None = None
        self._asked = -1

    def suggest(self, number: int, history: History) -> Suggestion:
        """The suggestion for trial ``number``; asked again for the same number, the next point.

        Raises:
            Exhausted: If the sequence is at its end.
            SpaceError: If no point meets the constraints.
        """
        if self._skipped is None:
            known = [*history.attrs.values(), *(s.attrs for s in history.running.values())]
            self._skipped = max((int(attrs.get(SKIPPED) or 0) for attrs in known), default=0)
        if number == self._asked:
            self._skipped += 1
        self._asked = number
        params = self._feasible(number + self._skipped)
        return Suggestion(params, {SKIPPED: self._skipped} if self._skipped else {})

    def _feasible(self, rank: int) -> Params:
        """The point with ``rank`` feasible ones before it."""
        if not self._space.constraints:
            return self._point(rank)
        if rank < self._next_rank:
            self._next_index = self._next_rank = 0
        broken: dict[Condition, int] = {}
        tries = 0
        while True:
            try:
                params = self._point(self._next_index)
            except Exhausted:
                if self._next_rank == 0 and broken:
                    raise self._space.unsatisfied(max(broken, key=broken.__getitem__), tries) from None
                raise
            self._next_index += 1
            constraint = self._space.violated(params)
            if constraint is None:
                tries = 0
                self._next_rank += 1
                if self._next_rank > rank:
                    return params
                continue
            tries += 1
            broken[constraint] = broken.get(constraint, 0) + 1
            if tries == self._max_tries:
                raise self._space.unsatisfied(max(broken, key=broken.__getitem__), tries)


def needs_space(sampler: str) -> UsageError:
    """The error for a sampler that can't do without a space, such as ``grid``."""
    return UsageError(
        f"The {sampler} sampler needs a search space", given="an objective that asks for its parameters as it runs",
        allowed="random, tpe, gp, cmaes or nsga2 without a space",
        hint="write the space beside the objective, or choose --sampler tpe",
    )
