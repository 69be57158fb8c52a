"""Several studies at once in one store: each has its own process, and none is in another's way."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.campaign import family, kill9, rows, start, velo, wait_for, wait_until_gone, write_objective

OBJECTIVE = '''
import time
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize value")
def train(trial):
    for step in range(3):
        time.sleep({pause})
        print(trial.study, trial.number, step, flush=True)
        trial.report(step, value=trial.params["x"] / (step + 1))
    return trial.params["x"]
'''
NAMES = ("ann", "bob", "cy", "di")


def of(folder: Path, name: str, what: str) -> list[tuple[object, ...]]:
    """Rows of one study's trials."""
    return rows(folder, f"select {what} from trials t join studies s on s.id = t.study_id where s.name = '{name}' "
                        "order by t.number")


def check(folder: Path, name: str, trials: int) -> None:
    """A study has its trials, each once, with its own reports and its own log of events."""
    assert of(folder, name, "t.number, t.state") == [(n, "completed") for n in range(trials)]
    assert of(folder, name, "(select count(*) from metrics m where m.trial_id = t.id)") == [(3,)] * trials
    events = rows(folder, f"select e.seq from events e join studies s on s.id = e.study_id where s.name = '{name}' "
                          "order by 1")
    assert len(events) == len(set(events))


def test_four_studies_in_one_store_at_once_are_stopped_resumed_and_followed_by_name(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, OBJECTIVE, pause=0.02)
    processes = {
        name: start(tmp_path, "sweep", str(objective), "--trials", "12", "--workers", "1", "--name", name, "-q",
                    "--sampler", "random")
        for name in NAMES
    }
    wait_for(lambda: all(of(tmp_path, name, "1") for name in NAMES), timeout_s=60.0)
    follower = start(tmp_path, "logs", "cy", "0", "-f")
    children = {name: family(process) for name, process in processes.items()}

    code, _, err = velo(tmp_path, "stop", "ann")
    assert code == 0, err
    assert processes["ann"].wait(20) in (0, 143), "stopped, or done just before"
    kill9(processes["bob"])
    processes["bob"].wait()
    wait_until_gone(children["ann"] + children["bob"])
    assert [processes[name].poll() for name in ("cy", "di")] != [-9, -9], "the others run on, or are done"

    resumed = {name: start(tmp_path, "resume", name, "-q") for name in ("ann", "bob")}
    for name, process in {**processes, **resumed}.items():
        _, err = process.communicate(timeout=60)
        if name in ("cy", "di") or process is resumed.get(name):
            assert process.returncode == 0, err
    out, _ = follower.communicate(timeout=20)
    assert out.splitlines() == [f"cy 0 {step}" for step in range(3)]
    for name in NAMES:
        check(tmp_path, name, 12)
    assert rows(tmp_path, "select distinct state, owner_pid from studies") == [("finished", 0)]
    assert rows(tmp_path, "pragma integrity_check") == [("ok",)]


def test_a_study_that_is_stopped_leaves_the_others_their_logs_and_their_trials(tmp_path: Path) -> None:
    objective = write_objective(tmp_path, OBJECTIVE, pause=0.03)
    one, other = (
        start(tmp_path, "sweep", str(objective), "--trials", "200", "--workers", "1", "--name", name, "-q")
        for name in ("one", "other")
    )
    wait_for(lambda: of(tmp_path, "one", "1") and of(tmp_path, "other", "1"), timeout_s=60.0)
    assert velo(tmp_path, "stop", "one")[0] == 0
    assert one.wait(20) == 143
    before = len(of(tmp_path, "other", "1"))
    wait_for(lambda: len(of(tmp_path, "other", "1")) > before + 2)
    code, out, _ = velo(tmp_path, "ls", "--json")
    assert code == 0
    assert '"one"' in out
    assert '"other"' in out
    started_s = time.monotonic()
    assert velo(tmp_path, "stop", "other")[0] == 0
    assert time.monotonic() - started_s < 30.0
    assert other.wait(20) == 143
    assert rows(tmp_path, "select name, state, owner_pid from studies order by name") == [
        ("one", "stopped", 0), ("other", "stopped", 0)
    ]
