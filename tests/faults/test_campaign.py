"""The campaign of faults, in short: one study for each fault; the whole of it is ``make test-all``'s."""

from __future__ import annotations

import pytest

from tests.faults import campaign
from tests.support.faults import FAULTS, FULL_DISK

_QUICK = [fault for fault in FAULTS if any(word in fault.name for word in (
    "SIGSTOP", "memory", "longer", "damaged", "commit", "preempted",
))]
"""The others have quick tests of their own (``test_kills.py``, ``test_checkpoints.py``, ``test_objectives.py``)."""


def test_a_study_survives_each_fault() -> None:
    tallies = campaign.campaign(len(_QUICK), seed=1, jobs=2, faults=_QUICK, writes=[4, 60])
    assert {name: tally.problems for name, tally in tallies.items() if tally.problems} == {}
    assert sum(tally.runs for tally in tallies.values()) == len(_QUICK) + 2
    assert sum(tally.injected > 0 for tally in tallies.values()) >= len(_QUICK) - 1, "nearly every fault has hit"


@pytest.mark.slow
def test_two_hundred_studies_and_a_disk_that_is_full_at_every_write() -> None:
    with campaign.all_faults() as faults:
        tallies = campaign.campaign(208, seed=2, jobs=2, faults=faults)
    assert {name: tally.problems for name, tally in tallies.items() if tally.problems} == {}
    assert tallies[FULL_DISK.name].runs > 50
    assert all(tally.injected >= tally.runs / 2 for tally in tallies.values()), campaign.table(tallies)
