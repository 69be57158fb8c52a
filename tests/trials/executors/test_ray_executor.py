"""The Ray executor: the contract on a Ray of one node, and what is special about actors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contracts.executor_contract import ExecutorContract
from velodrome.resources.ray_plan import plan_ray
from velodrome.resources.request import ResourceRequest
from velodrome.trials.executor import Executor
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.ray_cluster import RayCluster
from velodrome.trials.ray_executor import RayExecutor


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
class TestRayExecutor(ExecutorContract):
    def make(self, source: ObjectiveSource, *, workers: int = 1, prefetch: int = 8, **options: Any) -> Executor:
        cluster = RayCluster("")
        request = ResourceRequest.parse(options.get("resources", ""))
        return RayExecutor(source, cluster, plan_ray(cluster.nodes(), request, workers), prefetch=prefetch)
