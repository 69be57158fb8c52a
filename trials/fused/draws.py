"""The random numbers of dropout for K members, each drawn from the member's own generator, as ``Drawn`` does alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from velodrome.trials.fused.dropout import Site, scale_of
from velodrome.trials.fused.programs import CantFuse
from velodrome.trials.fused.rows import corner, largest

FindSites = Callable[[int, int], list[Site]]
"""From a row and the size of its batch to its calls of dropout."""


class Draws:
    """Draws for the steps of a group.

    Args:
        generators: Each row's.
        find: Finds the calls of dropout of a row; asked once for each size of batch.
    """

    def __init__(self, generators: Sequence[Generator], find: FindSites) -> None:
        self._generators, self._find = generators, find
        self._sites: dict[tuple[int, int], list[Site]] = {}

    def room(self, sizes: Sequence[int]) -> list[Tensor]:
        """Where the numbers of each call go, ``[K, ...]``, for batches of those sizes."""
        calls = self._calls(sizes)
        device = self._generators[0].device
        return [torch.zeros(len(sizes), *largest([tuple(s.shape) for s in call]), device=device) for call in calls]

    def rates(self, sizes: Sequence[int], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
        """By call, which part it drops and what it multiplies the rest with, ``[K]``."""
        calls = self._calls(sizes)
        device = self._generators[0].device
        parts = [torch.tensor([site.p for site in call], device=device) for call in calls]
        scales = [torch.tensor([scale_of(site.p) for site in call], dtype=dtype, device=device) for call in calls]
        return parts, scales

    def fill(self, room: Sequence[Tensor], sizes: Sequence[int]) -> None:
        """Draws the numbers of one step."""
        for row, (generator, size) in enumerate(zip(self._generators, sizes, strict=True)):
            for numbers, site in zip(room, self._of(row, size), strict=True):
                corner(numbers[row], site.shape).uniform_(generator=generator)

    def _calls(self, sizes: Sequence[int]) -> list[tuple[Site, ...]]:
        """Each call of dropout, with what it is in every row.

        Raises:
            CantFuse: If the rows' calls are not alike.
        """
        rows = [self._of(row, size) for row, size in enumerate(sizes)]
        if len({tuple(len(site.shape) for site in row) for row in rows}) > 1:
            raise CantFuse("the model calls dropout at other places in some members than in others")
        return list(zip(*rows, strict=True))

    def _of(self, row: int, size: int) -> list[Site]:
        found = self._sites.get((row, size))
        if found is None:
            found = self._sites[row, size] = self._find(row, size)
        return found
