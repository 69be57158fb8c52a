from __future__ import annotations

import numpy as np
import pytest

from velodrome.errors import UsageError
from velodrome.replicates import Replicates


def test_the_middle_half_counts() -> None:
    made = Replicates.of([1.0, 2.0, 3.0, 4.0, 1000.0])
    assert made.iqm == 3.0  # of 2, 3 and 4
    assert made.values == (1.0, 2.0, 3.0, 4.0, 1000.0)
    assert 1.0 <= made.low <= made.iqm <= made.high <= 1000.0


def test_one_seed_is_its_own_interval() -> None:
    made = Replicates.of([7.5])
    assert (made.low, made.iqm, made.high) == (7.5, 7.5, 7.5)
    assert "1 seeds" in str(made)


def test_nothing_can_not_be_summed_up() -> None:
    with pytest.raises(UsageError, match="no values"):
        Replicates.of([])


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(1).normal(size=9).tolist()
    assert Replicates.of(values) == Replicates.of(values)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Normal samples of 40: the interquartile mean of the distribution is 0."""
    rng = np.random.default_rng(2)
    made = [Replicates.of(rng.normal(size=40).tolist()) for _ in range(100)]
    assert sum(m.low <= 0.0 <= m.high for m in made) == pytest.approx(95, abs=8)
