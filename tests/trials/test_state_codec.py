"""States as JSON and arrays, and back: whatever goes in comes out, with its type."""

from __future__ import annotations

import json
import math
import random
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.gpus import needs_gpu
from velodrome.trials.state_codec import decode, encode

_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(1 << 200), 1 << 200) | st.floats()
    | st.text(st.characters()) | st.binary(max_size=20)
)
_DTYPES = st.sampled_from([
    "f2", "f4", "f8", "i1", "i8", "u1", "u8", "?", "c8", "c16", ">f4", ">i8", "M8[ms]", "m8[s]", "S3", "U2", "g",
])
_ARRAYS = hnp.arrays(_DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3))
_KEYS = st.text(max_size=5) | st.integers() | st.none() | st.booleans() | st.just("$") | st.tuples(st.integers())
_STATES = st.recursive(
    _SCALARS | _ARRAYS | hnp.from_dtype(np.dtype("f4")) | hnp.from_dtype(np.dtype("u8")),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(_KEYS, inner, max_size=4)
    | st.dictionaries(_KEYS, inner, max_size=3).map(OrderedDict),
    max_leaves=12,
)


def there_and_back(state: Any, map_to: str = "cpu") -> Any:
    return decode(*encode(state), map_to)


def assert_same(a: Any, b: Any) -> None:
    """Equal in value and in type, all the way down."""
    assert type(a) is type(b)
    match a:
        case dict():
            assert list(map(repr, a)) == list(map(repr, b)), "the same keys, of the same types, in the same order"
            for one, other in zip(a.values(), b.values(), strict=True):
                assert_same(one, other)
        case list() | tuple():
            assert len(a) == len(b)
            for one, other in zip(a, b, strict=True):
                assert_same(one, other)
        case np.ndarray() | np.generic():
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        case float():
            assert repr(a) == repr(b)  # tells -0.0 from 0.0
        case _:
            assert a == b


@settings(max_examples=300, deadline=None)
@given(_STATES)
def test_any_state_comes_back_as_it_was(state: Any) -> None:
    encoded = encode(state)
    text = json.dumps(json.loads(encoded.text))
    assert_same(decode(text, encoded.arrays, encoded.tensors), state)


@pytest.mark.parametrize("dtype", [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
    "uint64", "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2",
])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_tensors_of_every_type(dtype: str, shape: tuple[int, ...]) -> None:
    tensor = (torch.rand(shape) * 3).to(getattr(torch, dtype))
    again = there_and_back({"x": tensor})["x"]
    assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
    bits = [t.contiguous().reshape(-1).view(torch.uint8) if t.numel() else t.reshape(-1) for t in (tensor, again)]
    assert bits[0].tolist() == bits[1].tolist()


def test_nan_and_infinity_and_the_sign_of_zero_in_tensors() -> None:
    again = there_and_back(torch.tensor([math.nan, math.inf, -math.inf, -0.0]))
    assert repr(again.tolist()) == "[nan, inf, -inf, -0.0]"


def test_views_and_strides() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"t": base.T, "row": base[1], "every": base[:, ::2], "conj": torch.tensor([1 + 2j]).conj()}
    again = there_and_back(state)
    for name, tensor in state.items():
        assert torch.equal(again[name], tensor), name
    again["row"] += 1
    assert torch.equal(again["t"], base.T), "each has memory of its own"


def test_tied_tensors_and_arrays_are_kept_once_and_stay_tied() -> None:
    weight, array = torch.ones(3), np.ones(3)
    encoded = encode({"in": weight, "out": weight, "a": array, "b": array})
    assert (list(encoded.tensors), list(encoded.arrays)) == (["in"], ["a"])
    again = decode(*encoded)
    assert again["in"] is again["out"]
    assert again["a"] is again["b"]


def test_parameters_and_gradients() -> None:
    state = {"p": torch.nn.Parameter(torch.ones(2)), "frozen": torch.nn.Parameter(torch.ones(2), requires_grad=False),
             "leaf": torch.ones(2, requires_grad=True), "result": torch.ones(2, requires_grad=True) * 2}
    again = there_and_back(state)
    assert type(again["p"]) is type(again["frozen"]) is torch.nn.Parameter
    assert [t.requires_grad for t in again.values()] == [True, False, True, False]
    assert all(t.is_leaf for t in again.values())


def test_what_comes_back_can_be_written_to() -> None:
    again = there_and_back({"a": np.zeros(3), "u": np.array(["x"]), "t": torch.zeros(3)})
    again["a"][0], again["u"][0], again["t"][0] = 1, "y", 1
    assert (again["a"][0], again["u"][0], again["t"][0].item()) == (1, "y", 1)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_a_model_and_its_optimizer(optimizer: str) -> None:
    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer, Any]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
        made = getattr(torch.optim, optimizer)(model.parameters(), lr=0.01)
        return model, made, torch.optim.lr_scheduler.StepLR(made, 2)

    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, schedule: Any, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()
            schedule.step()

    straight = make()
    train(*straight, 10)
    first = make()
    train(*first, 5)
    state = there_and_back({"parts": [part.state_dict() for part in first], "rng": torch.get_rng_state()})
    second = make()
    for part, kept in zip(second, state["parts"], strict=True):
        part.load_state_dict(kept)
    torch.manual_seed(99)
    torch.set_rng_state(state["rng"])
    train(*second, 5)
    for a, b in zip(straight[0].state_dict().values(), second[0].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert state["parts"][0]._metadata[""] == {"version": 1}


def test_random_generators() -> None:
    bits = np.random.default_rng(5)
    legacy = np.random.RandomState(5)
    mine = random.Random(5)
    state = there_and_back((mine.getstate(), bits.bit_generator.state, legacy.get_state()))
    want = mine.random(), bits.random(), legacy.random()
    mine.setstate(state[0])
    bits.bit_generator.state = state[1]
    legacy.set_state(state[2])
    assert (mine.random(), bits.random(), legacy.random()) == want


def test_only_what_was_on_a_gpu_goes_where_the_caller_wants_it() -> None:
    encoded = encode({"w": torch.ones(2), "rng": torch.zeros(3, dtype=torch.uint8)})
    text = encoded.text.replace('{"$":"tensor","k":"w"}', '{"$":"tensor","k":"w","f":["gpu"]}')
    assert text != encoded.text
    again = decode(text, encoded.arrays, encoded.tensors, "meta")  # stands for a GPU
    assert [t.device.type for t in again.values()] == ["meta", "cpu"]


@needs_gpu
def test_tensors_on_a_gpu() -> None:
    state = {"w": torch.rand(3, 2, device="cuda").T, "p": torch.nn.Parameter(torch.ones(2, device="cuda")),
             "rng": torch.cuda.get_rng_state(), "cpu": torch.ones(2)}
    for map_to in ("cpu", "cuda"):
        again = there_and_back(state, map_to)
        assert [t.device.type for t in again.values()] == [map_to, map_to, "cpu", "cpu"]
        for name, tensor in state.items():
            assert torch.equal(again[name].cpu(), tensor.cpu())


def test_names_in_the_files_say_what_is_in_them() -> None:
    encoded = encode({"model": {"0.weight": torch.ones(1)}, "model.0": {"weight": torch.ones(2)}, "e": [np.ones(1)]})
    assert list(encoded.tensors) == ["model.0.weight", "model.0.weight#2"]
    assert list(encoded.arrays) == ["e.0"]


class Thing:
    pass


@pytest.mark.parametrize(("state", "words"), [
    ({"model": {"x": Thing()}}, ["state['model']['x']", "Thing"]),
    ([1, {2, 3}], ["state[1]", "set"]),
    ({"f": (0, lambda: None)}, ["state['f'][1]", "function"]),
    ({"t": torch.ones(2).to_sparse()}, ["state['t']", "sparse"]),
    ({"t": torch.empty(2, device="meta")}, ["state['t']", "meta"]),
    ({"a": np.array([None])}, ["state['a']", "ndarray"]),
    ({"a": np.ma.masked_array([1])}, ["state['a']", "MaskedArray"]),
    ({"a": np.zeros(2, [("x", "f4")])}, ["state['a']", "ndarray"]),
    ({frozenset(): 1}, ["state", "frozenset"]),
    (Thing, ["state is", "type"]),
])
def test_what_can_not_be_kept_is_named_with_its_place(state: Any, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        encode(state)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_state_that_contains_itself() -> None:
    state: dict[str, Any] = {}
    state["again"] = state
    with pytest.raises(TypeError, match="contain itself"):
        encode(state)
