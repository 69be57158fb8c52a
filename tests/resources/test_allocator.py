"""The allocator: which workers a machine gets, and that it never gives out what is not there."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velodrome.errors import UsageError
from velodrome.resources.allocator import plan
from velodrome.resources.gpus import Gpu
from velodrome.resources.inventory import Inventory
from velodrome.resources.request import AUTO_GPU, ResourceRequest

GIB = 1024**3


def gpus(*free_gib: int) -> tuple[Gpu, ...]:
    return tuple(Gpu(i, f"GPU-{i}", "Card", 24 * GIB, free * GIB) for i, free in enumerate(free_gib))


CPU_ONLY = Inventory(8, 32 * GIB, 16 * GIB)
TWO_GPUS = Inventory(8, 32 * GIB, 16 * GIB, gpus(24, 20))


def test_by_default_a_core_each() -> None:
    planned = plan(CPU_ONLY, ResourceRequest())
    assert [slot.index for slot in planned.slots] == list(range(8))
    assert {(slot.threads, slot.device, slot.label) for slot in planned.slots} == {(1, "cpu", "cpu")}
    assert planned.reasons == ("8 workers: as many as the cores allow",)


def test_fewer_workers_share_the_cores_out() -> None:
    assert [slot.threads for slot in plan(CPU_ONLY, ResourceRequest(), 3).slots] == [2, 2, 2]


def test_more_workers_than_cores_are_allowed_and_said() -> None:
    planned = plan(CPU_ONLY, ResourceRequest(cpus=2), 6)
    assert len(planned.slots) == 6
    assert {slot.threads for slot in planned.slots} == {1}
    assert "6 workers at 2 cores each share 8: each is slower" in planned.reasons


def test_a_trial_that_asks_for_more_cores_than_there_are_gets_those() -> None:
    planned = plan(CPU_ONLY, ResourceRequest(cpus=12))
    assert [slot.threads for slot in planned.slots] == [8]
    assert "a trial asks for 12 cores and there are 8: it gets those" in planned.reasons


def test_memory_limits_the_workers_and_each_is_held_to_it() -> None:
    planned = plan(CPU_ONLY, ResourceRequest(memory_bytes=5 * GIB))
    assert [slot.memory_bytes for slot in planned.slots] == [5 * GIB] * 3
    assert planned.reasons == ("3 workers: as many as the memory allow",)


def test_a_trial_that_says_nothing_of_memory_is_held_to_nearly_all_of_it() -> None:
    assert plan(CPU_ONLY, ResourceRequest(), 1).slots[0].memory_bytes == int(32 * GIB * 0.95)
    assert plan(TWO_GPUS, ResourceRequest(gpu_millis=1000), 1).slots[0].memory_bytes == 0


def test_memory_that_exists_and_is_not_free_now_is_said() -> None:
    planned = plan(CPU_ONLY, ResourceRequest(memory_bytes=20 * GIB))
    assert "20 GiB may be needed, and 16 GiB are free now" in planned.reasons


def test_auto_is_the_cpu_where_no_gpu_is() -> None:
    planned = plan(CPU_ONLY, ResourceRequest(gpu_millis=AUTO_GPU), 2)
    assert {slot.device for slot in planned.slots} == {"cpu"}
    assert {len(slot.env) for slot in planned.slots} == {0}
    assert "on the CPU: no GPU is here" in planned.reasons


def test_auto_is_a_gpu_each() -> None:
    planned = plan(TWO_GPUS, ResourceRequest(gpu_millis=AUTO_GPU))
    assert [(slot.device, slot.label, slot.env["CUDA_VISIBLE_DEVICES"], slot.threads) for slot in planned.slots] == [
        ("cuda", "cuda:0", "GPU-0", 4), ("cuda", "cuda:1", "GPU-1", 4),
    ]
    assert planned.reasons == ("each trial has a GPU to itself", "2 workers: as many as the GPUs allow")


def test_auto_shares_where_more_workers_are_asked_for() -> None:
    planned = plan(TWO_GPUS, ResourceRequest(gpu_millis=AUTO_GPU), 5)
    assert Counter(slot.label for slot in planned.slots) == {"cuda:0": 3, "cuda:1": 2}
    assert "up to 3 trials share a GPU" in planned.reasons


def test_a_trial_without_gpu_does_not_see_them() -> None:
    assert {slot.env["CUDA_VISIBLE_DEVICES"] for slot in plan(TWO_GPUS, ResourceRequest()).slots} == {""}


def test_parts_are_spread_and_the_freest_gpu_comes_first() -> None:
    busy_first = Inventory(8, GIB, GIB, gpus(2, 24, 12))
    planned = plan(busy_first, ResourceRequest(gpu_millis=500), 4)
    assert [slot.label for slot in planned.slots] == ["cuda:1", "cuda:2", "cuda:0", "cuda:1"]


def test_gpu_memory_limits_what_shares_a_gpu() -> None:
    planned = plan(TWO_GPUS, ResourceRequest(gpu_millis=100, gpu_memory_bytes=7 * GIB))
    assert Counter(slot.label for slot in planned.slots) == {"cuda:0": 3, "cuda:1": 2}


def test_several_gpus_for_one_trial() -> None:
    four = Inventory(8, GIB, GIB, gpus(24, 24, 24, 24))
    planned = plan(four, ResourceRequest(gpu_millis=2000))
    assert [(slot.label, slot.env["CUDA_VISIBLE_DEVICES"]) for slot in planned.slots] == [
        ("cuda:0,1", "GPU-0,GPU-1"), ("cuda:2,3", "GPU-2,GPU-3"),
    ]


@pytest.mark.parametrize(("inventory", "request_", "workers", "said"), [
    (CPU_ONLY, ResourceRequest(gpu_millis=1000), None, "here: no GPU"),
    (TWO_GPUS, ResourceRequest(gpu_millis=3000), None, "0 trials at once"),
    (TWO_GPUS, ResourceRequest(gpu_millis=500), 5, "4 trials at once"),
    (TWO_GPUS, ResourceRequest(gpu_millis=500, gpu_memory_bytes=30 * GIB), None, "20 GiB of 24 GiB free"),
    (CPU_ONLY, ResourceRequest(memory_bytes=40 * GIB), None, "32 GiB in all"),
    (CPU_ONLY, ResourceRequest(memory_bytes=10 * GIB), 4, "40 GiB in all"),
    (CPU_ONLY, ResourceRequest(), 0, "allowed: 1 or more"),
])
def test_the_impossible_says_what_there_is(
    inventory: Inventory, request_: ResourceRequest, workers: int | None, said: str,
) -> None:
    with pytest.raises(UsageError) as error:
        plan(inventory, request_, workers)
    assert said in str(error.value)


inventories = st.builds(
    lambda cpus, total, share, free: Inventory(cpus, total * GIB, total * GIB * share // 100, gpus(*free)),
    st.integers(1, 64), st.integers(1, 512), st.integers(0, 100), st.lists(st.integers(0, 24), max_size=8),
)
requests = st.builds(
    lambda cpus, millis, gpu_gib, gib: ResourceRequest(cpus, millis, (gpu_gib if millis else 0) * GIB, gib * GIB),
    st.integers(1, 8),
    st.one_of(st.integers(AUTO_GPU, 1000), st.integers(1, 4).map(lambda n: n * 1000)),
    st.integers(0, 30), st.integers(0, 64),
)


@given(inventories, requests, st.none() | st.integers(1, 40))
def test_never_more_than_there_is(inventory: Inventory, request_: ResourceRequest, workers: int | None) -> None:
    try:
        planned = plan(inventory, request_, workers)
    except UsageError:
        return
    assert planned == plan(inventory, request_, workers)
    slots = planned.slots
    assert len(slots) == workers if workers else len(slots) >= 1
    assert all(slot.threads >= 1 for slot in slots)
    assert len(slots) * request_.memory_bytes <= inventory.memory_bytes
    if workers is None and len(slots) > 1:
        assert len(slots) * request_.cpus <= inventory.cpus
        assert len(slots) * request_.memory_bytes <= inventory.available_bytes
    if len(slots) <= inventory.cpus:
        assert sum(slot.threads for slot in slots) <= inventory.cpus
    on_gpus = [slot.env["CUDA_VISIBLE_DEVICES"].split(",") for slot in slots if slot.device == "cuda"]
    assert len(on_gpus) in (0, len(slots))
    load = Counter(uuid for uuids in on_gpus for uuid in uuids)
    millis_each = min(max(request_.gpu_millis, 0), 1000)
    for gpu in inventory.gpus:
        assert load[gpu.uuid] * millis_each <= 1000
        assert load[gpu.uuid] * request_.gpu_memory_bytes <= gpu.free_bytes
    if request_.gpu_millis > 0:
        assert all(len(set(uuids)) == max(1, request_.gpu_millis // 1000) for uuids in on_gpus)
        assert len(on_gpus) == len(slots)


@given(inventories, st.integers(1, 1000))
def test_by_default_no_gpu_has_room_left_that_cores_could_use(inventory: Inventory, gpu_millis: int) -> None:
    if not inventory.gpus:
        return
    room = sum(1000 // gpu_millis for _ in inventory.gpus)
    assert len(plan(inventory, ResourceRequest(gpu_millis=gpu_millis)).slots) == min(room, inventory.cpus)
