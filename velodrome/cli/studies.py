"""A study as the commands print it."""

from __future__ import annotations

from collections.abc import Mapping

from velodrome.progress import duration
from velodrome.records import StudyRow
from velodrome.store.reader import Reader
from velodrome.types import TrialState


def num_finished(counts: Mapping[str, int]) -> int:
    """How many trials are finished, from their numbers by state."""
    return sum(count for state, count in counts.items() if TrialState(state).is_finished)


def best_value(reader: Reader, row: StudyRow) -> float | None:
    """The best value of the goal's first metric so far."""
    best = reader.best(row.id, 1)
    return best[0].value if best else None


def seconds(duration_s: float) -> str:
    """A duration for people: ``0.213 s``, ``12.5 s``, ``3 min 20 s``."""
    return f"{duration_s:.3g} s" if duration_s < 59.9 else duration(duration_s)


def age(ago_s: float) -> str:
    """How long ago, in one figure: ``8 s``, ``5 min``, ``3 h``, ``2 d``."""
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if ago_s >= length_s:
            return f"{int(ago_s // length_s)} {unit}"
    return f"{max(0, int(ago_s))} s"
