"""Weight sharing whose process is killed while the supernet trains: it goes on, to the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.campaign import family, kill9, rows, start, velo, wait_for, wait_until_gone

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "weight_sharing.py")
SWEEP = ("sweep", EXAMPLE, "--sampler", "sharing:candidates=3,winners=1", "--trials", "5", "--workers", "1",
         "--threads", "1", "--seed", "2", "--name", "s")


def results(folder: Path) -> list[tuple[object, ...]]:
    return rows(folder, "select t.number, t.state, m.value from trials t join metrics m on m.trial_id = t.id "
                        "where m.name = 'accuracy' order by t.number")


@pytest.mark.slow
def test_the_supernet_goes_on_after_kill_9(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    process = start(killed, *SWEEP)
    wait_for(lambda: rows(killed, "select step from checkpoints"), timeout_s=60)
    children = family(process)
    kill9(process)
    process.wait()
    wait_until_gone(children)
    assert rows(killed, "select state from trials") == [("running",)], "the supernet is half trained"
    code, out, err = velo(killed, "resume", "s")
    assert code == 0, out + err
    assert rows(killed, "select count(*) from events where kind = 'restored' and number = 0")[0][0] == 1
    code, out, err = velo(whole, *SWEEP)
    assert code == 0, out + err
    assert len(results(whole)) == 4
    assert results(killed) == results(whole), "the same inherited accuracies, to the last bit"
