"""Requests: what their texts mean, and what is said of wrong ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velodrome.errors import UsageError
from velodrome.resources.request import AUTO_GPU, ResourceRequest, format_bytes, parse_bytes


@pytest.mark.parametrize(("text", "request_"), [
    ("", ResourceRequest()),
    ("cpus=2", ResourceRequest(cpus=2)),
    ("cpus=2, gpu=0.5, memory=4GiB", ResourceRequest(2, 500, 0, 4 * 1024**3)),
    ("gpu=1,gpu_memory=10GB", ResourceRequest(gpu_millis=1000, gpu_memory_bytes=10**10)),
    ("gpu=2", ResourceRequest(gpu_millis=2000)),
    ("gpu=0.333", ResourceRequest(gpu_millis=333)),
    ("gpu=auto", ResourceRequest(gpu_millis=AUTO_GPU)),
])
def test_texts(text: str, request_: ResourceRequest) -> None:
    assert ResourceRequest.parse(text) == request_


@pytest.mark.parametrize(("text", "said"), [
    ("cpu=2", "Did you mean 'cpus'?"),
    ("gpus=2", "Did you mean 'gpu'?"),
    ("4", "given: '4'"),
    ("cpus=0", "impossible cpus"),
    ("cpus=1.5", "number of cores"),
    ("cpus=2,cpus=3", "names cpus twice"),
    ("gpu=-1", "given: '-1'"),
    ("gpu=1.5", "GPUs and a part of one"),
    ("gpu=0.0001", "three decimals"),
    ("gpu=nan", "given: 'nan'"),
    ("gpu=many", "allowed: auto"),
    ("memory=4XB", "given: '4XB'"),
    ("memory=-4", "given: '-4'"),
    ("memory=", "A size is not understood"),
    ("gpu_memory=1GiB", "GPU memory and no GPU"),
])
def test_wrong_texts_say_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        ResourceRequest.parse(text)
    assert said in str(error.value)


@pytest.mark.parametrize("values", [{"cpus": 0}, {"cpus": True}, {"gpu_millis": -2}, {"memory_bytes": 1.0}])
def test_wrong_values_say_what_is_wrong(values: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        ResourceRequest(**values)


@pytest.mark.parametrize(("text", "amount"), [
    ("0", 0), ("17", 17), ("17B", 17), ("1kb", 1000), ("1K", 1024), ("1KiB", 1024), ("1.5 GiB", 3 * 2**29),
    ("2tb", 2 * 10**12),
])
def test_sizes(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "GiB", "1.5B", "1e3", "1 2", "4 parsecs", "\u0664GiB"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="A size is not understood"):
        parse_bytes(text)


@pytest.mark.parametrize(("amount", "text"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (25276510208, "23.5 GiB"), (2**60, "1048576 TiB"),
])
def test_sizes_are_shown_in_the_largest_unit(amount: int, text: str) -> None:
    assert format_bytes(amount) == text


@given(st.integers(0, 2**50))
def test_a_shown_size_is_near_the_size(amount: int) -> None:
    number, unit = format_bytes(amount).split()
    size = float(number) * parse_bytes(f"1{unit}")
    assert abs(size - amount) <= 0.051 * parse_bytes(f"1{unit}")


gpu_parts = st.one_of(st.integers(1, 999), st.integers(1, 8).map(lambda n: n * 1000))


@given(st.integers(1, 64), gpu_parts, st.integers(0, 64))
def test_a_request_in_round_figures_is_read_back_from_its_own_text(
    cpus: int, gpu_millis: int, memory_gib: int,
) -> None:
    request = ResourceRequest(cpus, gpu_millis, memory_gib * 2**30, memory_gib * 2**30)
    assert ResourceRequest.parse(str(request)) == request


def test_other_resources_are_those_that_the_settings_name() -> None:
    request = ResourceRequest.parse("cpus=2,licences=3", ["licences", "robots"])
    assert request.custom == (("licences", 3),)
    assert str(request) == "cpus=2,licences=3"
    with pytest.raises(UsageError, match=r"robots=N(.|\n)*Did you mean 'licences'"):
        ResourceRequest.parse("licence=3", ["licences", "robots"])
    with pytest.raises(UsageError, match="A number of robots is not understood"):
        ResourceRequest.parse("robots=many", ["licences", "robots"])
    with pytest.raises(UsageError, match="names licences twice"):
        ResourceRequest.parse("licences=1,licences=2", ["licences"])
