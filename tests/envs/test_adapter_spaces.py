"""Observations as rows and back; actions checked."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.check_values import difference

LEAVES = st.one_of(
    st.builds(spaces.Discrete, st.integers(1, 5), start=st.integers(-3, 3)),
    st.builds(spaces.MultiBinary, st.integers(1, 4)),
    st.builds(spaces.MultiDiscrete, st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.builds(
        lambda shape, dtype: spaces.Box(0, 100, tuple(shape), dtype),
        st.lists(st.integers(1, 3), max_size=3), st.sampled_from([np.uint8, np.int16, np.float32, np.float64]),
    ),
)
SPACES = st.recursive(
    LEAVES, lambda inner: st.one_of(
        st.builds(spaces.Dict, st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3)),
        st.builds(spaces.Tuple, st.lists(inner, min_size=1, max_size=3)),
    ), max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(SPACES, st.integers(0, 1000))
def test_a_row_gives_back_its_observation(space: spaces.Space, seed: int) -> None:
    space.seed(seed)
    layout = ObsLayout.of(space)
    obs = space.sample()
    row = np.zeros((2, *layout.shape), layout.dtype)
    layout.write(obs, row[1:].reshape(layout.shape))
    back = layout.unflatten(row[1])
    assert difference(back, obs) == ""
    if layout.is_flat:
        assert space.contains(back)


def test_a_box_keeps_its_shape_and_dtype() -> None:
    layout = ObsLayout.of(spaces.Box(0, 255, (84, 84, 3), np.uint8))
    assert (layout.shape, layout.dtype) == ((84, 84, 3), np.uint8)


def test_the_layout_of_a_dict_is_as_documented() -> None:
    space = spaces.Dict({
        "b": spaces.Tuple([spaces.Discrete(3, start=-1), spaces.MultiDiscrete([2, 3])]),
        "a": spaces.Box(0, 255, (2, 2), np.uint8),
    })
    layout = ObsLayout.of(space)
    places = [(leaf.path, leaf.start, leaf.stop) for leaf in layout.leaves]
    assert places == [(("a",), 0, 4), (("b", 0), 4, 7), (("b", 1), 7, 12)]
    assert layout.dtype == np.int16  # the common type of uint8 and int8
    row = np.zeros(layout.shape, layout.dtype)
    layout.write({"a": np.array([[1, 2], [3, 4]], np.uint8), "b": (0, np.array([1, 2]))}, row)
    assert row.tolist() == [1, 2, 3, 4, 0, 1, 0, 0, 1, 0, 0, 1]
    assert layout.split(np.stack([row, row]))["a",].tolist() == [[[1, 2], [3, 4]]] * 2


@pytest.mark.parametrize("space", [
    spaces.Text(5), spaces.Dict(a=spaces.Sequence(spaces.Discrete(2))), spaces.Graph(spaces.Box(0, 1), None),
])
def test_other_observation_spaces_are_refused(space: spaces.Space) -> None:
    with pytest.raises(EnvError, match="allowed: Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple"):
        ObsLayout.of(space)


def test_other_action_spaces_are_refused() -> None:
    with pytest.raises(EnvError, match="allowed: Discrete, MultiDiscrete, MultiBinary, Box"):
        ActionLayout.of(spaces.Dict(a=spaces.Discrete(2)))


@pytest.mark.parametrize(("space", "actions", "given"), [
    (spaces.Discrete(3, start=5), np.array([0, 2]), [5, 7]),
    (spaces.MultiDiscrete([2, 3], start=[1, 10]), np.array([[0, 2], [1, 0]]), [[1, 12], [2, 10]]),
    (spaces.MultiBinary(2), np.array([[0, 1], [1, 1]]), [[0, 1], [1, 1]]),
    (spaces.Box(-1, 1, (1,), np.float32), np.array([[-3.0], [0.5]]), [[-1], [0.5]]),
])
def test_actions_reach_the_environment_as_its_space_has_them(space, actions, given) -> None:
    layout = ActionLayout.of(space)
    batch = layout.to_batch(actions, 2, clip=True).astype(layout.dtype)
    for row, want in zip(batch, given, strict=True):
        action = layout.to_env(row)
        assert np.asarray(action).tolist() == want
        assert space.contains(action)


@pytest.mark.parametrize(("actions", "said"), [
    (np.zeros((2, 1), int), r"given: \(2, 1\)\n  allowed: \(2,\)"), (np.array([0.5, 1.0]), "whole numbers"),
    (np.zeros(3, int), r"given: \(3,\)"),
])
def test_actions_that_make_no_sense_are_refused(actions, said) -> None:
    with pytest.raises(EnvError, match=said):
        ActionLayout.of(spaces.Discrete(2)).to_batch(actions, 2, clip=True)
