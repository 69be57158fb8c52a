"""All parameters of K members as one buffer, a row for each: ``[K, P]``.

Where members differ in width, each tensor of a row has the largest of their shapes, and a member's own numbers stand in
its leading corner; the rest is zero and stays so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

_ALIGNED = 16
"""Tensors begin at multiples of so many numbers, as vectors do."""

Shapes = dict[str, tuple[int, ...]]


class Layout:
    """Where each tensor stands in a row.

    Args:
        shapes: By name, each member's.
    """

    def __init__(self, shapes: Sequence[Shapes]) -> None:
        self.shapes: Shapes = {name: largest([own[name] for own in shapes]) for name in shapes[0]}
        self._starts: dict[str, int] = {}
        size = 0
        for name, shape in self.shapes.items():
            self._starts[name] = size
            size += -(-prod(shape) // _ALIGNED) * _ALIGNED
        self.size = size
        self.is_padded = any(own[name] != shape for own in shapes for name, shape in self.shapes.items())

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """The tensors of all rows, ``[K, *shape]``, for rows ``[K, P]``."""
        found = {}
        for name, shape in self.shapes.items():
            start = self._starts[name]
            found[name] = rows[:, start : start + prod(shape)].view(len(rows), *shape)
        return found


def largest(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The smallest shape that holds all of them."""
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True))


def corner(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The leading part of a tensor that has that shape."""
    return tensor[tuple(slice(size) for size in shape)] if tuple(tensor.shape) != tuple(shape) else tensor


def write(views: Mapping[str, Tensor], row: int, values: Mapping[str, Tensor]) -> None:
    """Puts a member's tensors into its row."""
    for name, view in views.items():
        corner(view[row], values[name].shape).copy_(values[name])


def read(views: Mapping[str, Tensor], row: int, shapes: Shapes) -> dict[str, Tensor]:
    """A member's tensors as they are in its row: views."""
    return {name: corner(view[row], shapes[name]) for name, view in views.items()}


def stacked(shapes: Sequence[Shapes], like: Mapping[str, Tensor], device: str) -> dict[str, Tensor]:
    """Room for tensors of all members that stand in no common row: ``[K, *largest]``, zero."""
    return {
        name: torch.zeros(len(shapes), *largest([own[name] for own in shapes]), dtype=value.dtype, device=device)
        for name, value in like.items()
    }
