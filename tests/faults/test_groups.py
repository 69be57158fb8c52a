"""Trials that are trained together, and whose process is killed: each goes on from its own last checkpoint."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.campaign import (
    family,
    kill9,
    loaded_workers,
    rows,
    start,
    velo,
    wait_for,
    wait_until_gone,
)
from tests.support.lines import Lines
from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.member import Member

NUM_TRIALS, NUM_EPOCHS = 4, 12
JOB = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.support.lines import Lines

class Saved(Lines):
    epochs = {NUM_EPOCHS}
    checkpoint_s = 0.0  # after every report
"""


class Longer(Lines):
    epochs = NUM_EPOCHS


def steps(folder: Path) -> list[int]:
    """The steps of the trials' newest checkpoints."""
    return [step for (step,) in rows(folder, "select max(step) from checkpoints group by trial_id")]


@pytest.mark.slow
def test_a_worker_and_then_the_controller_are_killed(tmp_path: Path) -> None:
    (tmp_path / "saved.py").write_text(JOB)
    process = start(
        tmp_path, "sweep", "saved.py", "--trials", str(NUM_TRIALS), "--fuse", "4", "--workers", "1", "--name", "s",
        "--sampler", "random", "--seed", "3",
    )
    # The worker dies, and with it all trials of its group, when they have checkpoints.
    wait_for(lambda: len(steps(tmp_path)) == NUM_TRIALS)
    kill9(loaded_workers(tmp_path, process)[0])
    wait_for(lambda: rows(tmp_path, "select count(*) from events where kind = 'restored'")[0][0] == NUM_TRIALS)
    lost = rows(tmp_path, "select number, data from events where kind = 'lost' order by number")
    assert [number for number, _ in lost] == list(range(NUM_TRIALS))
    assert all("SIGKILL" in data for _, data in lost)
    far = max(steps(tmp_path))
    wait_for(lambda: max(steps(tmp_path)) > far)
    # The controller dies; everything goes on from where the log ends.
    children = family(process)
    kill9(process)
    process.wait()
    wait_until_gone(children)
    code, out, err = velo(tmp_path, "resume", "s")
    assert code == 0, out + err
    assert rows(tmp_path, "select state, count(*) from trials group by state") == [("completed", NUM_TRIALS)]
    restored = rows(tmp_path, "select data from events where kind = 'restored'")
    assert all(json.loads(data)[0] >= 1 for (data,) in restored), "each went on from a checkpoint of its own"
    # Every figure is as if nothing had happened.
    found: dict[int, list[float]] = defaultdict(list)
    for number, value in rows(
        tmp_path, "select number, m.value from metrics m join trials t on t.id = m.trial_id where m.name = 'error' "
                  "order by number, step",
    ):
        found[number].append(value)
    seeds = dict(rows(tmp_path, "select number, seed from trials"))
    for number in range(NUM_TRIALS):
        params = dict(rows(
            tmp_path, f"select name, p.value from params p join trials t on t.id = p.trial_id where number = {number}"))
        alone, expected = Alone(Longer(), Member(number, params, seeds[number])), []
        while not alone.is_done:
            alone.advance()
            expected.append(alone.evaluate()["error"])
        assert found[number] == pytest.approx(expected, rel=1e-3)
