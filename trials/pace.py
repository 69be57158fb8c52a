"""Which of the running trials hang: nothing was heard of them for longer than they, or their like, ever took.

The limit is given, or learnt once three trials have come to an end of their own: the longest of five minutes, 20
times the median gap between two signs of life, 5 times the longest gap there was, and 10 times the longest of the trial
itself. All gaps count, from the start to the first report and from the last report to the end: a long evaluation at the
end is no hanging.
"""

from __future__ import annotations

from collections import deque
from statistics import median

_LEAST_S = 300.0
_MEDIANS, _LONGESTS, _OWN_LONGESTS = 20.0, 5.0, 10.0
_LEARNS_FROM = 3
"""So many trials must have ended before anything is learnt."""
_KEPT_GAPS = 1000
_STALL_S = 5.0
"""If nobody looked for so long, it was this process that stood still, or the machine."""


class Pace:
    """The signs of life of a study's running trials. All times are in seconds, by a monotonic clock.

    Args:
        limit_s: How long a trial may be silent; None to learn it.
    """

    def __init__(self, limit_s: float | None = None) -> None:
        self._limit_s = limit_s
        self._heard_at: dict[int, float] = {}
        self._longest_s: dict[int, float] = {}
        self._gaps_s: deque[float] = deque(maxlen=_KEPT_GAPS)
        self._num_ended = 0
        self._longest_ended_s = 0.0
        self._looked_at: float | None = None

    def started(self, number: int, now: float) -> None:
        """The trial was handed to a worker."""
        self._heard_at[number], self._longest_s[number] = now, 0.0

    def heard(self, number: int, now: float) -> None:
        """The trial reported, or gave another sign of life."""
        before = self._heard_at.get(number)
        if before is not None:
            gap_s = now - before
            self._heard_at[number] = now
            self._gaps_s.append(gap_s)
            if gap_s > self._longest_s[number]:
                self._longest_s[number] = gap_s

    def ended(self, number: int, now: float, *, by_itself: bool) -> None:
        """The trial runs no more; from one that ended by itself its pace is learnt."""
        self.heard(number, now)
        if self._heard_at.pop(number, None) is None:
            return
        longest_s = self._longest_s.pop(number)
        if by_itself:
            self._num_ended += 1
            self._longest_ended_s = max(self._longest_ended_s, longest_s)

    def overdue(self, now: float) -> list[tuple[int, str]]:
        """The trials that hang, in order of number, and why each is thought to."""
        before, self._looked_at = self._looked_at, now
        if before is not None and now - before > _STALL_S:
            for number in self._heard_at:
                self._heard_at[number] += now - before
        limit_s, why = self._limit()
        if limit_s is None:
            return []
        found = []
        for number, at in sorted(self._heard_at.items()):
            own_s = 0.0 if self._limit_s is not None else _OWN_LONGESTS * self._longest_s[number]
            if now - at > max(limit_s, own_s):
                limit = f"the limit is {max(limit_s, own_s):.3g} s, {why}"
                found.append((number, f"nothing was heard of it for {now - at:.3g} s; {limit}"))
        return found

    def _limit(self) -> tuple[float | None, str]:
        if self._limit_s is not None:
            return self._limit_s, "as given"
        if self._num_ended < _LEARNS_FROM:
            return None, ""
        middle_s = median(self._gaps_s)
        limit_s = max(_LEAST_S, _MEDIANS * middle_s, _LONGESTS * self._longest_ended_s)
        return limit_s, (f"learnt from {self._num_ended} trials, which were silent for {middle_s:.3g} s as a rule and "
                         f"{self._longest_ended_s:.3g} s at most")
