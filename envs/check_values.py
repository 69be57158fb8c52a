"""Why a value is not in its space, and how two observations differ, in words."""

from __future__ import annotations

from typing import Any

import numpy as np


def why_not_in(space: Any, value: Any, path: str = "") -> str:
    """What keeps ``value`` out of ``space``; empty if it is in it."""
    at = f"at {path}: " if path else ""
    children = getattr(space, "spaces", None)
    if isinstance(children, dict | tuple):
        return _why_not_nested(children, value, path, at)
    if type(space).__name__ == "Box":
        return at + why if (why := _why_not_box(space, value)) else ""
    if space.contains(value):
        return ""
    return f"{at}{value!r:.60} (a {type(value).__name__}) is not in {space}"


def difference(one: Any, two: Any, path: str = "") -> str:
    """Where two observations differ; empty if they are the same (NaN equals NaN)."""
    at = f" at {path}" if path else ""
    if isinstance(one, dict) and isinstance(two, dict):
        if one.keys() != two.keys():
            return f"other keys{at}"
        return next((d for key in one if (d := difference(one[key], two[key], f"{path}/{key}"))), "")
    if isinstance(one, tuple) and isinstance(two, tuple):
        pairs = enumerate(zip(one, two, strict=True))
        return next((d for i, pair in pairs if (d := difference(*pair, f"{path}/{i}"))), "")
    a, b = np.asarray(one), np.asarray(two)
    if a.shape != b.shape:
        return f"shapes {a.shape} and {b.shape}{at}"
    same = (a == b) | ((a != a) & (b != b))
    if same.all():
        return ""
    index = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"{a[index]} and {b[index]}{at or ' at index ' + (str(index[0]) if len(index) == 1 else str(index))}"


def _why_not_nested(children: Any, value: Any, path: str, at: str) -> str:
    if isinstance(children, tuple):
        if not isinstance(value, tuple) or len(value) != len(children):
            return f"{at}{value!r:.60} is not a tuple of {len(children)}"
        pairs = list(enumerate(children))
    else:
        if not isinstance(value, dict) or set(value) != set(children):
            keys = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
            return f"{at}has {keys}, the space has the keys {sorted(map(str, children))}"
        pairs = list(children.items())
    return next((why for key, child in pairs if (why := why_not_in(child, value[key], f"{path}/{key}"))), "")


def _why_not_box(space: Any, value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return f"it is a {type(value).__name__}, not a NumPy array: np.array(..., dtype=np.{space.dtype})"
    if value.shape != space.shape:
        return f"its shape is {value.shape}, the space's is {space.shape}"
    if not np.can_cast(value.dtype, space.dtype):
        return f"its dtype is {value.dtype}, the space's is {space.dtype}: .astype(np.{space.dtype})"
    bad = ~np.isfinite(value) if value.dtype.kind == "f" else np.zeros(value.shape, np.bool_)
    with np.errstate(invalid="ignore"):
        outside = (value < space.low) | (value > space.high)
    nan = np.isnan(value) if value.dtype.kind == "f" else bad
    for what, where in (("is NaN", nan), ("is infinite", bad), ("is out of bounds", outside)):
        if where.any():
            index = tuple(int(i) for i in np.argwhere(where)[0])
            bounds = f" [{space.low[index]}, {space.high[index]}]" if what == "is out of bounds" else ""
            return f"its value {value[index]} at index {index[0] if len(index) == 1 else index} {what}{bounds}"
    return ""
