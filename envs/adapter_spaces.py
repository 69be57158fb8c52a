"""How spaces become plain arrays: an observation is one row of one array, an action is one row of another.

Observations: a Box keeps its shape and dtype. Every other space becomes a flat vector, its leaves one after the other
in the space's own order (Gymnasium keeps a Dict's keys in order, sorted where it was made from a plain dict):

======================  ==================================================================================
leaf                    its part of the vector
======================  ==================================================================================
Box                     its values in C order
Discrete(n)             one-hot, n values
MultiDiscrete(nvec)     one one-hot after the other, sum(nvec) values
MultiBinary(shape)      its bits in C order
======================  ==================================================================================

The vector's dtype is NumPy's common type of the leaves (one-hots and bits count as int8); float32 if there is no Box.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from velodrome.envs.adapter_errors import EnvError

Array = np.ndarray[Any, np.dtype[Any]]
Path = tuple[str | int, ...]

OBSERVATIONS = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these, nested as you like"
ACTIONS = "Discrete, MultiDiscrete, MultiBinary, Box"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A space that is neither Dict nor Tuple, and where it lies in the row.

    Attributes:
        path: Keys and indices that lead to it in the observation; empty for the only one.
        kind: ``"box"``, ``"discrete"``, ``"multi_discrete"`` or ``"multi_binary"``.
        shape: Its values' shape in the environment's observation.
        dtype: Their dtype there.
        sizes: Number of classes of each one-hot; empty for box and multi_binary.
        starts: The smallest value of each of them.
        start: Where its part of the row begins.
        stop: Where that part ends.
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    start: int
    stop: int

    def write(self, value: Any, row: Array) -> None:
        """Writes the leaf's value into its part of a flat row."""
        part = row[self.start : self.stop]
        if not self.sizes:
            part[:] = np.asarray(value).reshape(-1)
            return
        part[:] = 0
        offset = 0
        for size, first, index in zip(self.sizes, self.starts, np.asarray(value).reshape(-1).tolist(), strict=True):
            if not 0 <= index - first < size:
                raise EnvError(
                    "An observation is not in its space", given=f"{index} at {self.path or 'the only leaf'}",
                    allowed=f"{first} to {first + size - 1}",
                )
            part[offset + index - first] = 1
            offset += size

    def read(self, row: Array) -> Any:
        """The leaf's value from a flat row; the inverse of ``write``."""
        part = row[self.start : self.stop]
        if not self.sizes:
            return part.reshape(self.shape).astype(self.dtype)
        ends = np.cumsum(self.sizes)[:-1]
        one_hots = np.split(part, ends)
        indices = [int(one_hot.argmax()) + first for one_hot, first in zip(one_hots, self.starts, strict=True)]
        if self.kind == "discrete":
            return self.dtype.type(indices[0])
        return np.array(indices, self.dtype).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class ObsLayout:
    """How an observation lies in a row of ``obs``.

    Attributes:
        shape: A row's shape: a Box's own, else ``(size,)``.
        dtype: A row's dtype.
        leaves: The parts of a flat row, in order; one, the whole row, for a Box.
        is_flat: Whether rows are flat vectors made of leaves; False for a Box, which is taken as it is.
        tree: The nesting of Dict and Tuple, with leaf numbers; ``0`` for a lone leaf.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    leaves: tuple[Leaf, ...]
    is_flat: bool
    tree: Any

    @classmethod
    def of(cls, space: Any) -> ObsLayout:
        """The layout for an observation space.

        Raises:
            EnvError: If the space, or one in it, is not supported.
        """
        leaves: list[Leaf] = []
        tree = _grow(space, (), leaves)
        if _class_of(space) == "Box":
            return cls(tuple(space.shape), np.dtype(space.dtype), tuple(leaves), False, tree)
        kinds = [np.dtype(np.int8) if leaf.sizes else leaf.dtype for leaf in leaves]
        only_bits = all(leaf.kind != "box" for leaf in leaves)
        dtype = np.dtype(np.float32) if only_bits else np.result_type(*kinds)
        return cls((leaves[-1].stop if leaves else 0,), dtype, tuple(leaves), True, tree)

    def write(self, obs: Any, row: Array) -> None:
        """Writes an observation into a row, in place.

        Raises:
            EnvError: If its shape is not the space's, or a value is not in it.
        """
        if not self.is_flat:
            if (obs.shape if isinstance(obs, np.ndarray) else np.shape(obs)) != self.shape:
                raise EnvError(
                    "An observation has not the shape of its space", given=str(np.shape(obs)), allowed=str(self.shape),
                )
            row[...] = obs
            return
        for leaf in self.leaves:
            value = obs
            for key in leaf.path:
                value = value[key]
            leaf.write(value, row)

    def unflatten(self, row: Array) -> Any:
        """The environment's observation from a row; the inverse of ``write``."""
        return self._build(self.tree, row) if self.is_flat else row

    def split(self, obs: Array) -> dict[Path, Array]:
        """The leaves of a batch ``[N, size]`` by path, views of it: a Box as ``[N, *its shape]``, others flat."""
        if not self.is_flat:
            return {(): obs}
        parts = {leaf.path: obs[..., leaf.start : leaf.stop] for leaf in self.leaves}
        shapes = {leaf.path: leaf.shape for leaf in self.leaves if not leaf.sizes}
        return {path: part.reshape(obs.shape[:-1] + shapes[path]) if path in shapes else part
                for path, part in parts.items()}

    def _build(self, tree: Any, row: Array) -> Any:
        if isinstance(tree, int):
            return self.leaves[tree].read(row)
        if isinstance(tree, dict):
            return {key: self._build(child, row) for key, child in tree.items()}
        return tuple(self._build(child, row) for child in tree)


@dataclass(frozen=True, slots=True)
class ActionLayout:
    """What actions must be. Classes count from 0, whatever the space's ``start``.

    Attributes:
        kind: ``"discrete"``: ``[N]`` int64; ``"multi_discrete"``: ``[N, k]`` int64; ``"multi_binary"``: ``[N, *shape]``
            int8; ``"box"``: ``[N, *shape]`` of the space's dtype.
        shape: Shape of one action: ``()`` for discrete.
        dtype: Its dtype.
        sizes: Number of classes of each discrete part; a mask has ``sum(sizes)`` columns, one part after the other.
        starts: The smallest value of each of them in the environment.
        low: A Box's lower bounds, ``shape``; else empty.
        high: Its upper bounds.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    low: Array
    high: Array

    @classmethod
    def of(cls, space: Any) -> ActionLayout:
        """The layout for an action space.

        Raises:
            EnvError: If it is not one of the four.
        """
        kind = _KINDS.get(_class_of(space))
        if kind is None:
            raise EnvError("The action space is not supported", given=str(space), allowed=ACTIONS,
                           hint="wrap the environment so that its actions are one of these")
        sizes, starts = _classes(space, kind)
        shape = tuple(space.shape)
        dtype = np.dtype(_ACTION_DTYPES.get(kind, space.dtype))
        bounds = (space.low, space.high) if kind == "box" else (np.zeros(0), np.zeros(0))
        return cls(kind, shape, dtype, sizes, starts, *bounds)

    def to_batch(self, actions: Any, num: int, *, clip: bool) -> Array:
        """The actions checked, with a Box's clipped to its bounds if asked: ``[num, *shape]``.

        Raises:
            EnvError: If their shape or kind is wrong.
        """
        batch = np.asarray(actions)
        if batch.shape != (num, *self.shape):
            raise EnvError("Actions have the wrong shape", given=str(batch.shape), allowed=str((num, *self.shape)))
        if self.kind == "box":
            return np.clip(batch, self.low, self.high, dtype=self.dtype, casting="same_kind") if clip else batch
        if batch.dtype.kind not in "iub":
            raise EnvError("Actions must be whole numbers", given=str(batch.dtype), allowed=str(self.dtype))
        return batch

    def to_env(self, row: Any) -> Any:
        """One row as the environment's own action."""
        if self.kind == "discrete":
            return row if not self.starts[0] else row + self.starts[0]
        return row + np.asarray(self.starts).reshape(self.shape) if self.kind == "multi_discrete" else row.copy()


_ACTION_DTYPES: dict[str, Any] = {"discrete": np.int64, "multi_discrete": np.int64, "multi_binary": np.int8}
_KINDS = {"Box": "box", "Discrete": "discrete", "MultiDiscrete": "multi_discrete", "MultiBinary": "multi_binary"}


def _class_of(space: Any) -> str:
    """The name of the Gymnasium class that the space is of, or derives from."""
    names = [base.__name__ for base in type(space).__mro__]
    return next((name for name in names if name in _KINDS or name in ("Dict", "Tuple")), names[0])


def _grow(space: Any, path: Path, leaves: list[Leaf]) -> Any:
    """Appends the space's leaves and returns its tree."""
    name = _class_of(space)
    if name in ("Dict", "Tuple"):
        children: Iterator[tuple[Any, Any]] = iter(space.spaces.items() if name == "Dict" else enumerate(space.spaces))
        grown = {key: _grow(child, (*path, key), leaves) for key, child in children}
        return grown if isinstance(space.spaces, Mapping) else tuple(grown.values())
    kind = _KINDS.get(name)
    if kind is None:
        where = " at " + "/".join(map(str, path)) if path else ""
        raise EnvError(
            f"The observation space is not supported{where}", given=str(space), allowed=OBSERVATIONS,
            hint="wrap the environment: gymnasium.wrappers.TransformObservation",
        )
    sizes, starts = _classes(space, kind)
    size = sum(sizes) if sizes else int(np.prod(space.shape))
    start = leaves[-1].stop if leaves else 0
    leaves.append(Leaf(path, kind, tuple(space.shape), np.dtype(space.dtype), sizes, starts, start, start + size))
    return len(leaves) - 1


def _classes(space: Any, kind: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Number of classes and smallest value of each discrete part; both empty for box and multi_binary."""
    if kind == "discrete":
        return (int(space.n),), (int(space.start),)
    if kind == "multi_discrete":
        nvec: Sequence[int] = np.asarray(space.nvec).reshape(-1).tolist()
        return tuple(nvec), tuple(np.asarray(space.start).reshape(-1).tolist())
    return (), ()
