"""Several seeds of one run as one result: the interquartile mean and its 95 % interval (Agarwal et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from velodrome.errors import UsageError

_RESAMPLES = 10_000
_ENDS = 0.025, 0.975


@dataclass(frozen=True, slots=True)
class Replicates:
    """What the seeds of a run gave.

    Attributes:
        values: One each, in the order given.
        iqm: Their interquartile mean: that of the middle half, so that neither a lucky nor a failed seed decides.
        low: Where the 95 % interval of the iqm begins, by the percentile bootstrap. With few seeds it is wide, and
            still too narrow to be taken at its word: five are a hint, not a proof.
        high: Where it ends.
    """

    values: tuple[float, ...]
    iqm: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Replicates:
        """The summary of one or more values; the same values give the same interval.

        Raises:
            UsageError: If there is none.
        """
        import numpy as np
        from scipy.stats import trim_mean  # type: ignore[import-untyped]  # scipy ships no types

        given = np.asarray(values, np.float64)
        if not len(given):
            raise UsageError("There is nothing to sum up", given="no values", allowed="one value or more")
        rng = np.random.Generator(np.random.Philox(0))
        resampled = given[rng.integers(len(given), size=(_RESAMPLES, len(given)))]
        low, high = np.quantile(trim_mean(resampled, 0.25, axis=1), _ENDS)
        return cls(tuple(given.tolist()), float(trim_mean(given, 0.25)), float(low), float(high))

    def __str__(self) -> str:
        """One line for people."""
        return (f"IQM {self.iqm:.4g}, 95 % interval {self.low:.4g} to {self.high:.4g}, "
                f"lowest {min(self.values):.4g} ({len(self.values)} seeds)")
