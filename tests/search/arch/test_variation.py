from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import velodrome as velo
from tests.search.arch.nets import NETS
from tests.search.spaces import spaces
from velodrome.search.arch.variation import cross, mutate, neighbours
from velodrome.search.space import Space

MODELS = Space(lr=velo.Float(1e-4, 0.1, log=True), model=velo.Choice(
    "linear", cnn={"net": NETS["cnn"]}, mlp={"flat": NETS["mlp"]}), constraints="params < 3000")


@settings(max_examples=30)
@given(spaces().filter(lambda s: len(s) > 0), st.integers(0, 1000))
def test_changes_stay_in_any_space(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = space.sample(rng), space.sample(rng)
    for changed in (mutate(one, space, rng), mutate(one, space, rng, 3), cross(one, two, space, rng)):
        space.check(changed)
    for near in neighbours(one, space, rng, 20):
        space.check(near)


@pytest.mark.parametrize("space", [*(Space(net=net) for net in NETS.values()), MODELS])
def test_changes_of_nets_are_nets(space: Space) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        one, two = space.sample(rng), space.sample(rng)
        for changed in (mutate(one, space, rng, 2), cross(one, two, space, rng)):
            space.check(changed)


def test_a_mutation_changes_one_parameter_and_what_hangs_on_it() -> None:
    space, rng = Space(net=NETS["cnn"]), np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        before = space.sample(rng)
        after = mutate(before, space, rng)
        changed = [n for n in before if n in after and before[n] != after[n]]
        assert len(changed) == 1
        gone_or_new = set(before) ^ set(after)
        assert all(name.startswith(f"{changed[0]}.") for name in gone_or_new)
        seen.add(changed[0])
    assert "net.body" in seen
    assert len(seen) > 10


def test_a_crossing_takes_each_parameter_from_one_of_the_two() -> None:
    space, rng = Space(net=NETS["darts"]), np.random.default_rng(0)
    one, two = space.sample(rng), space.sample(rng)
    child = cross(one, two, space, rng)
    assert all(child[name] in (one[name], two[name]) for name in child)
    assert child not in (one, two)


def test_neighbours_are_all_that_differ_in_one_choice() -> None:
    space = Space(a=velo.Choice("x", "y", "z"), b=velo.Int(1, 3), c=velo.Choice("only"))
    params = {"a": "x", "b": 2, "c": "only"}
    found = neighbours(params, space, np.random.default_rng(0), 99)
    assert sorted((p["a"], p["b"]) for p in found) == [("x", 1), ("x", 3), ("y", 2), ("z", 2)]


def test_isomorphic_neighbours_are_one() -> None:
    space = Space(net=velo.Net((4, 4, 4), velo.Cell("zero", "skip", nodes=2)))
    params = dict.fromkeys(space.domains, "zero") | {"net.0.0-2": "skip"}
    assert [p for p in neighbours(params, space, np.random.default_rng(0), 99)
            if space.structure(p) == space.structure(params)] == []


def test_structure_is_that_of_nets_and_the_other_parameters() -> None:
    space = Space(lr=velo.Float(0, 1), net=velo.Net((4, 4, 4), velo.Cell("zero", "skip", "conv3x3", nodes=2)))
    one = {"lr": 0.5, "net.0.0-1": "zero", "net.0.0-2": "skip", "net.0.1-2": "conv3x3"}
    assert space.structure(one) == space.structure(one | {"net.0.1-2": "skip"})
    assert space.structure(one) != space.structure(one | {"lr": 0.25})
    assert space.structure(one) != space.structure(one | {"net.0.0-2": "conv3x3"})
