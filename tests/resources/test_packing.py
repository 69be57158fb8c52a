"""Packing by measured peaks, with a stand-in for NVML."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velodrome.resources.gpus import Gpu
from velodrome.resources.packing import (
    MAX_SHARERS,
    free_gpu_bytes,
    hold_to,
    is_free,
    kind_of,
    measured_peak,
    memory_part,
    num_sharers,
    packed,
)
from velodrome.resources.request import ResourceRequest
from velodrome.resources.slots import Slot
from velodrome.search.domains import Choice, Int
from velodrome.search.space import Space
from velodrome.trials.events import Failed, Preempted, Returned
from velodrome.trials.gpu_part import settle_part
from velodrome.types import Failure, FailureClass

GIB = 1 << 30
CARD = Gpu(0, "GPU-a", "Card", 24 * GIB, 24 * GIB)


class FakeNvml:
    """What ``free_gpu_bytes`` uses of pynvml."""

    class NVMLError(Exception):
        pass

    def __init__(self, free_bytes: int, error: str = "") -> None:
        self._free_bytes, self._error = free_bytes, error
        self.num_open = 0

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        if self._error == "init":
            raise self.NVMLError
        self.num_open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.num_open -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if self._error == "handle":
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        assert handle == "GPU-a"
        return type("Memory", (), {"free": self._free_bytes})


def test_free_memory_is_asked_for() -> None:
    nvml = FakeNvml(5 * GIB)
    assert free_gpu_bytes(CARD, nvml) == 5 * GIB
    assert nvml.num_open == 0


@pytest.mark.parametrize("error", ["init", "handle"])
def test_a_gpu_that_cannot_be_asked_counts_as_free(error: str) -> None:
    nvml = FakeNvml(0, error)
    assert is_free(CARD, 1000, 0, lambda gpu: free_gpu_bytes(gpu, nvml))
    assert nvml.num_open == 0


@pytest.mark.parametrize(("millis", "asked", "free", "expected"), [
    (1000, 0, 24 * GIB, True), (1000, 0, 13 * GIB, True), (1000, 0, 11 * GIB, False), (250, 0, 4 * GIB, True),
    (250, 0, 2 * GIB, False), (250, 8 * GIB, 4 * GIB, False), (2000, 0, 13 * GIB, True),
])
def test_enough_of_its_part_must_be_free(millis: int, asked: int, free: int, expected: bool) -> None:
    assert is_free(CARD, millis, asked, lambda _: free) is expected


@pytest.mark.parametrize(("free", "peak", "expected"), [
    (24 * GIB, 5 * GIB, 4), (24 * GIB, 22 * GIB, 1), (24 * GIB, 30 * GIB, 1), (24 * GIB, 1, MAX_SHARERS), (GIB, 0, 1),
])
def test_as_many_as_nine_tenths_hold(free: int, peak: int, expected: int) -> None:
    assert num_sharers(free, peak) == expected


@given(st.integers(1, 1 << 40), st.integers(1, 1 << 40))
def test_what_shares_a_gpu_fits_and_is_held_to_its_part(free_bytes: int, peak_bytes: int) -> None:
    sharers = num_sharers(free_bytes, peak_bytes)
    if sharers > 1:
        assert sharers * peak_bytes <= free_bytes * 0.9
    card = Gpu(0, "GPU-a", "Card", free_bytes, free_bytes)
    request = packed(ResourceRequest(gpu_millis=1000), [card], peak_bytes)
    assert request.gpu_millis * sharers <= 1000
    if sharers > 1:
        assert peak_bytes <= memory_part(request, free_bytes) * sharers * free_bytes
        assert memory_part(request, free_bytes) * sharers <= 0.9 + 1e-9


def test_a_kind_that_was_never_seen_has_the_gpu_to_itself() -> None:
    request = ResourceRequest(gpu_millis=1000)
    assert packed(request, [CARD], None) is request
    assert packed(request, [CARD], 5 * GIB).gpu_millis == 250
    assert packed(ResourceRequest(gpu_millis=500), [CARD], 5 * GIB).gpu_millis == 500


def test_an_allocator_is_held_to_its_part_or_to_what_was_asked_for() -> None:
    assert memory_part(ResourceRequest(gpu_millis=1000), 24 * GIB) == 1.0
    assert memory_part(ResourceRequest(gpu_millis=500), 24 * GIB) == pytest.approx(0.45)
    assert memory_part(ResourceRequest(gpu_millis=100, gpu_memory_bytes=12 * GIB), 24 * GIB) == 0.5


class FakeTorch:
    """What of torch is used in a worker."""

    def __init__(self, num_gpus: int) -> None:
        self.parts: dict[int, float] = {}
        self.cuda = self
        self._num_gpus = num_gpus

    def is_available(self) -> bool:
        return self._num_gpus > 0

    def is_initialized(self) -> bool:
        return self._num_gpus > 0

    def device_count(self) -> int:
        return self._num_gpus

    def set_per_process_memory_fraction(self, part: float, device: int) -> None:
        self.parts[device] = part

    def max_memory_reserved(self, device: int) -> int:
        return (device + 1) * GIB

    def get_device_properties(self, device: int) -> Any:
        return type("Properties", (), {"total_memory": 24 * GIB})


def test_in_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for num_gpus, parts, peak in ((0, {}, 0), (2, {0: 0.45, 1: 0.45}, 2 * GIB + (512 << 20))):
        torch = FakeTorch(num_gpus)
        monkeypatch.setitem(sys.modules, "torch", torch)
        hold_to(1.0)
        assert torch.parts == {}
        hold_to(0.45)
        assert torch.parts == parts
        assert measured_peak() == peak
    monkeypatch.delitem(sys.modules, "torch")
    hold_to(0.45)
    assert measured_peak() == 0


def test_kinds_differ_in_what_memory_depends_on() -> None:
    width, wider = Space(width=Int(16, 64)).to_json(), Space(width=Int(16, 4096)).to_json()
    batch, dtype = Space(width=Int(16, 64), batch=Choice(32)), Space(width=Int(16, 64), dtype=Choice("bfloat16"))
    kinds = [
        kind_of(b"code"), kind_of(b"code", width), kind_of(b"code", wider), kind_of(b"code", batch.to_json()),
        kind_of(b"code", dtype.to_json()), kind_of(b"other", width),
    ]
    assert len(set(kinds)) == 6
    assert kind_of(b"code", {"b": [1], "a": [2]}) == kind_of(b"code", {"a": [2], "b": [1]})


def test_of_a_trial_that_ran_out_of_its_part_half_as_many_share_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch(1))
    out = Failed(3, Failure(FailureClass.OOM, "CUDA out of memory").to_json())
    for sharers, left in ((8, 4), (3, 1), (2, 1)):
        slot = Slot(0, device="cuda", gpu_memory_part=0.9 / sharers, may_grow=True)
        ending, needed = settle_part(out, slot)
        assert isinstance(ending, Preempted)
        assert "too small for it" in ending.reason
        assert num_sharers(24 * GIB, needed) == left
        assert settle_part(Returned(3, {}), slot) == (Returned(3, {}), GIB + (512 << 20))
        assert settle_part(out, replace(slot, may_grow=False))[0] == out
    monkeypatch.setitem(sys.modules, "torch", FakeTorch(0))
    assert settle_part(out, slot) == (out, 0), "what filled the memory is no business of torch's"
