"""A batch in parts, for a model that has no room for the whole of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def micro_batches(divisor: int, batches: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The batches in ``divisor`` parts (fewer where they are shorter), each after its share of the whole.

    Args:
        divisor: 1 or more.
        batches: Sequences of one length, cut along their first axis.

    Raises:
        ValueError: If there is none, or their lengths differ.
    """
    lengths = [len(batch) for batch in batches]
    if len(set(lengths)) != 1:
        raise ValueError(f"micro_batches: batches of one length are wanted, not {lengths}")
    length = lengths[0]
    parts = max(1, min(divisor, length))
    for part in range(parts):
        start, end = length * part // parts, length * (part + 1) // parts
        yield ((end - start) / length if length else 1.0, *(batch[start:end] for batch in batches))
