"""How many workers a cluster gets, and what each asks for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velodrome.errors import UsageError
from velodrome.resources.ray_plan import bundle_of, custom_resources, num_fitting, plan_ray
from velodrome.resources.request import ResourceRequest

GIB = 1 << 30
NODES: list[dict[str, float]] = [
    {"CPU": 4.0, "memory": 8.0 * GIB, "node:a": 1.0}, {"CPU": 8.0, "GPU": 2.0, "memory": 32.0 * GIB},
]


def plan(resources: str, workers: int | None = None, nodes: Any = NODES) -> tuple[int, dict[str, float], str]:
    planned = plan_ray(nodes, ResourceRequest.parse(resources), workers)
    assert [slot.index for slot in planned.slots] == list(range(len(planned.slots)))
    return len(planned.slots), planned.bundle, "; ".join(planned.reasons)


def test_as_many_workers_as_the_nodes_can_hold() -> None:
    assert plan("") == (12, {"CPU": 1.0}, "12 workers: as many as 2 nodes of a Ray cluster can hold (1 CPU each)")
    assert plan("cpus=3")[0] == 1 + 2
    assert plan("memory=5GiB")[0] == 1 + 6
    assert plan("gpu=1")[:2] == (2, {"CPU": 1.0, "GPU": 1.0})
    assert plan("gpu=0.5")[0] == 4
    assert plan("gpu=0.4")[0] == 4, "a part of a GPU lies on one GPU"
    assert plan("gpu=2")[0] == 1


def test_workers_that_find_no_place_now_are_no_error() -> None:
    count, _, reasons = plan("cpus=8", workers=3)
    assert count == 3
    assert reasons.endswith("the nodes can hold 1 of them: the others wait for a place")
    count, _, reasons = plan("gpu=4", workers=2)
    assert count == 2
    assert reasons.endswith("no node can hold one, and a worker has all on one node: they wait for a larger one")
    assert plan("cpus=64")[0] == 1
    assert plan("gpu=1", nodes=[])[0] == 1


@pytest.mark.parametrize(("workers", "millis", "words"), [
    (None, 1.0, "each trial has a GPU to itself"), (2, 1.0, "to itself"), (3, 0.5, "up to 2 trials share a GPU"),
])
def test_gpu_auto_takes_what_is_there(workers: int | None, millis: float, words: str) -> None:
    _, bundle, reasons = plan("gpu=auto", workers)
    assert bundle["GPU"] == millis
    assert words in reasons


def test_what_else_nodes_count_can_be_asked_for() -> None:
    nodes = [*NODES, {"CPU": 8.0, "licences": 3.0, "node:__internal_head__": 1.0, "object_store_memory": 1.0}]
    assert custom_resources(nodes) == ["licences"]
    planned = plan_ray(nodes, ResourceRequest.parse("cpus=2,licences=1", custom_resources(nodes)), None)
    assert planned.bundle == {"CPU": 2.0, "licences": 1.0}
    assert len(planned.slots) == 3
    with pytest.raises(UsageError, match="a node of the Ray cluster"):
        ResourceRequest.parse("licences=1", custom_resources(NODES))


def test_gpu_auto_is_the_cpu_where_the_cluster_has_no_gpu() -> None:
    planned = plan_ray(NODES[:1], ResourceRequest.parse("gpu=auto"), 1)
    assert planned.bundle == {"CPU": 1.0}
    assert planned.slots[0].device == "cpu"
    assert plan_ray(NODES, ResourceRequest.parse("gpu=1"), 1).slots[0].device == "cuda"


def test_threads_are_the_cores_asked_for_unless_said() -> None:
    request = ResourceRequest.parse("cpus=2,memory=1GiB")
    assert [(s.threads, s.memory_bytes) for s in plan_ray(NODES, request, 2).slots] == [(2, GIB)] * 2
    assert plan_ray(NODES, request, 1, threads=5).slots[0].threads == 5


@pytest.mark.parametrize(("resources", "workers", "words"), [
    ("", 0, "makes no sense"), ("gpu=1,gpu_memory=2GiB", 1, "Ray does not count GPU memory"),
])
def test_what_makes_no_sense_is_refused(resources: str, workers: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(resources, workers)


@given(
    cpus=st.integers(1, 9), millis=st.sampled_from([0, 1, 125, 300, 333, 500, 999, 1000, 2000]),
    memory=st.integers(0, 40), have=st.tuples(st.integers(0, 64), st.integers(0, 8), st.integers(0, 256)),
)
def test_what_fits_never_takes_more_than_there_is(
    cpus: int, millis: int, memory: int, have: tuple[int, int, int]
) -> None:
    bundle = bundle_of(ResourceRequest(cpus, millis, 0, memory))
    free = dict(zip(("CPU", "GPU", "memory"), map(float, have), strict=True))
    count = num_fitting(free, bundle)
    assert count >= 0
    assert all(count * amount <= free[name] + 1e-6 for name, amount in bundle.items())
    if millis and millis < 1000:
        assert count <= have[1] * (1000 // millis)
