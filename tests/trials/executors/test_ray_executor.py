"""The Ray executor: the contract on a Ray of one node, and what is special about actors."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.contracts.job_contract import JobContract
from tests.contracts.queueing_contract import QueueingContract
from tests.support.campaign import family, rows, start, wait_for, wait_until_gone
from velodrome.resources.ray_plan import plan_ray
from velodrome.resources.request import ResourceRequest
from velodrome.trials.events import Failed, Lost, Reported, Returned
from velodrome.trials.executor import Executor
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.ray_cluster import RayCluster
from velodrome.trials.ray_executor import RayExecutor
from velodrome.types import Failure, FailureClass


@pytest.fixture(scope="module")
def _ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray for the whole module: executors use the one that is there, and leave it there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path_factory.mktemp("ray") / "token"))
        cluster = RayCluster("", cpus=4)
        yield
        cluster.close()


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
class TestTrainingJobs(JobContract):
    @classmethod
    def make(cls, source: ObjectiveSource) -> Executor:
        cluster = RayCluster("")
        return RayExecutor(source, cluster, plan_ray(cluster.nodes(), ResourceRequest.parse(""), 1), prefetch=1)


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
class TestRayExecutor(QueueingContract):
    def make(self, source: ObjectiveSource, *, workers: int = 1, prefetch: int = 8, **options: Any) -> Executor:
        cluster = RayCluster("")
        request = ResourceRequest.parse(options.get("resources", ""))
        return RayExecutor(source, cluster, plan_ray(cluster.nodes(), request, workers), prefetch=prefetch)

    def test_what_a_trial_prints_is_kept_on_the_head(self, tmp_path: Path) -> None:
        body = """
            import sys, time
            print("first", trial.number, flush=True)
            while trial.number == 1 and not trial.should_stop:
                time.sleep(0.01)
            print("last", file=sys.stderr)
        """
        with self.running(tmp_path, body) as running:
            running.run(0)
            assert running.host.printed(0) == "first 0\nlast\n"
            running.launch(1)
            running.until(lambda: any(n == 1 and end < 0 for n, _, _, _, end in running.host.outputs))
            running.executor.stop(1, "enough")
            running.until(lambda: any(isinstance(e, Returned) for e in running.host.of(1)))
            assert running.host.printed(1) == "first 1\nlast\n"
            assert running.host.printed(0) == "first 0\nlast\n"
            assert {str(Path(path).parent) for _, _, path, _, _ in running.host.outputs} == {str(tmp_path / "logs")}

    def test_output_without_end_arrives_cut(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "for i in range(12 << 10): print('x' * 1023)\nprint('end')") as running:
            running.run(0)
            text = running.host.printed(0)
        assert "bytes of this trial's output were cut here" in text
        assert text.startswith("x" * 1023)
        assert text.endswith("x\nend\n")
        assert len(text) < 3 << 20

    def test_a_crash_of_the_trial_is_the_trials_and_the_actor_goes_on(self, tmp_path: Path) -> None:
        body = "import os\nif trial.number == 0:\n    os._exit(7)\nreturn 1.0"
        with self.running(tmp_path, body) as running:
            failure = running.failure(0)
            assert "os._exit" in failure.code
            assert running.run(1) == Returned(1, {"score": 1.0})

    def test_a_trial_that_hangs_is_ended_as_it_is_said_and_the_actor_goes_on(self, tmp_path: Path) -> None:
        body = "import time\ntrial.report(0, score=0)\nif trial.number == 0: time.sleep(600)\nreturn 1.0"
        with self.running(tmp_path, body) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.of(0)))
            hung = Failed(0, Failure(FailureClass.HUNG, "nothing was heard of it").to_json())
            running.executor.abandon(0, hung)
            running.until(lambda: len(running.host.of(0)) == 2)
            assert running.host.ending(0) == hung
            assert running.run(1) == Returned(1, {"score": 1.0})
            assert [slot.index for slot in running.executor.held()] == [0]

    def test_an_actor_that_dies_loses_one_trial_and_is_replaced(self, tmp_path: Path) -> None:
        body = """
            import os, time
            if trial.attempt == 1:
                trial.report(0, score=os.getppid())
                time.sleep(600)
            return 1.0
        """
        with self.running(tmp_path, body) as running:
            running.launch(0)
            running.until(lambda: bool(running.host.of(0)))
            [reported] = running.host.of(0)
            assert isinstance(reported, Reported)
            launcher = psutil.Process(int(reported.metrics["score"]))
            os.kill(launcher.ppid(), 9)
            running.until(lambda: len(running.host.of(0)) == 2)
            assert isinstance(running.host.ending(0), Lost)
            wait_until_gone([launcher])
            running.host.events.clear()
            running.launch(0, attempt=2)
            running.until(lambda: bool(running.host.of(0)))
            assert running.host.of(0) == [Returned(0, {"score": 1.0})]

    def test_a_limit_of_memory_is_the_trials(self, tmp_path: Path) -> None:
        body = "if trial.number == 0:\n    x = bytearray(4 << 30)\nreturn 1.0"
        with self.running(tmp_path, body, resources="memory=1GiB") as running:
            assert running.failure(0).kind == "oom"
            assert running.run(1) == Returned(1, {"score": 1.0})

    def test_closing_leaves_no_worker(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "import os, time\ntrial.report(0, score=os.getpid())\ntime.sleep(600)") as running:
            running.launch(0)
            running.until(lambda: bool(running.host.of(0)))
            [reported] = running.host.of(0)
            assert isinstance(reported, Reported)
            worker = psutil.Process(int(reported.metrics["score"]))
            running.executor.close()
            wait_until_gone([worker], timeout_s=2)


def test_a_sweep_on_a_ray_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "secret" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    (tmp_path / "bowl.py").write_text(
        "def train(trial):\n"
        "    x = trial.suggest_float('x', -1, 1)\n"
        "    print('x is', x)\n"
        "    trial.report(1, value=x * x)\n"
        "    trial.checkpoint(1, {'x': x})\n"
        "    return x * x\n"
    )
    process = start(
        tmp_path, "sweep", "bowl.py", "--executor", "ray", "--workers", "1", "--trials", "12", "--json", "--seed", "1",
    )
    wait_for(lambda: rows(tmp_path, "select 1 from trials") or process.poll() is not None, timeout_s=120)
    everybody = family(process)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["state"] == "finished"
    assert "ray" not in err.lower(), "Ray's own words are kept off the terminal"
    assert rows(tmp_path, "select count(*) from trials where state = 'completed'") == [(12,)]
    assert rows(tmp_path, "select count(*) from metrics where name = 'value'")[0][0] == 12
    assert len(list(tmp_path.glob("velodrome.files/bowl/*/step-*/state.json"))) == 1
    assert "x is" in next(tmp_path.glob("velodrome.logs/bowl/worker-0-*.log")).read_text()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert "1 worker, as asked, on 1 node" in str(rows(tmp_path, "select reason from decisions"))
    wait_until_gone(everybody)
