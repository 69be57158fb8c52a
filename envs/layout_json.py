"""Layouts of observations and actions as JSON: what an agent in a file must know of the spaces it was trained in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.adapter_spaces import ActionLayout, Leaf, ObsLayout


def obs_to_json(layout: ObsLayout) -> dict[str, Any]:
    """An ``ObsLayout``.

    Raises:
        EnvError: If a key of a Dict space is neither text nor number.
    """
    for leaf in layout.leaves:
        for key in leaf.path:
            if type(key) not in (str, int):
                raise EnvError("A key of the observation space can't be kept", given=repr(key),
                               allowed="text, or a number")
    return {
        "shape": layout.shape, "dtype": layout.dtype.str, "is_flat": layout.is_flat, "tree": _tree_to_json(layout.tree),
        "leaves": [
            {"path": leaf.path, "kind": leaf.kind, "shape": leaf.shape, "dtype": leaf.dtype.str, "sizes": leaf.sizes,
             "starts": leaf.starts, "start": leaf.start, "stop": leaf.stop} for leaf in layout.leaves
        ],
    }


def obs_from_json(data: Mapping[str, Any]) -> ObsLayout:
    """The inverse. Raises ValueError, TypeError or KeyError if that is no layout."""
    leaves = tuple(
        Leaf(tuple(leaf["path"]), str(leaf["kind"]), _whole(leaf["shape"]), _dtype(leaf["dtype"]),
             _whole(leaf["sizes"]), _whole(leaf["starts"]), int(leaf["start"]), int(leaf["stop"]))
        for leaf in data["leaves"]
    )
    return ObsLayout(
        _whole(data["shape"]), _dtype(data["dtype"]), leaves, bool(data["is_flat"]), _tree_from_json(data["tree"])
    )


def action_to_json(layout: ActionLayout) -> dict[str, Any]:
    """An ``ActionLayout``, without its bounds, which are arrays."""
    return {"kind": layout.kind, "shape": layout.shape, "dtype": layout.dtype.str, "sizes": layout.sizes,
            "starts": layout.starts}


def action_from_json(data: Mapping[str, Any], low: Any, high: Any) -> ActionLayout:
    """The inverse, with the bounds. Raises ValueError, TypeError or KeyError if that is no layout."""
    return ActionLayout(
        str(data["kind"]), _whole(data["shape"]), _dtype(data["dtype"]), _whole(data["sizes"]), _whole(data["starts"]),
        low, high,
    )


def _whole(numbers: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in numbers)


def _dtype(name: Any) -> np.dtype[Any]:
    dtype = np.dtype(str(name))
    if dtype.kind not in "biuf":
        raise ValueError(f"{name!r} is no dtype of numbers")
    return dtype


def _tree_to_json(tree: Any) -> Any:
    if isinstance(tree, int):
        return tree
    if isinstance(tree, dict):
        return {"dict": [[key, _tree_to_json(child)] for key, child in tree.items()]}
    return {"tuple": [_tree_to_json(child) for child in tree]}


def _tree_from_json(data: Any) -> Any:
    if isinstance(data, int):
        return data
    if "dict" in data:
        return {key: _tree_from_json(child) for key, child in data["dict"]}
    return tuple(_tree_from_json(child) for child in data["tuple"])
