"""The campaign of faults, in short: one study for each fault; the whole of it is ``make test-all``'s."""

from __future__ import annotations

import pytest

from tests.faults import campaign
from tests.support.faults import FAULTS, FULL_DISK

_ELSEWHERE = 3
"""The first few kinds have quick tests of their own (``test_kills.py``)."""


def test_a_study_survives_each_fault() -> None:
    faults = FAULTS[_ELSEWHERE:]
    tallies = campaign.campaign(len(faults), seed=1, jobs=3, faults=faults, writes=[4, 20, 60])
    assert {name: tally.problems for name, tally in tallies.items() if tally.problems} == {}
    assert sum(tally.runs for tally in tallies.values()) == len(faults) + 3
    assert sum(tally.injected > 0 for tally in tallies.values()) >= len(faults), "nearly every fault has hit"


@pytest.mark.slow
def test_two_hundred_studies_and_a_disk_that_is_full_at_every_write() -> None:
    tallies = campaign.campaign(200, seed=2, jobs=2)
    assert {name: tally.problems for name, tally in tallies.items() if tally.problems} == {}
    assert tallies[FULL_DISK.name].runs > 50
    assert all(tally.injected >= tally.runs / 2 for tally in tallies.values()), campaign.table(tallies)
