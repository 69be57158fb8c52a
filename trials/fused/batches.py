"""The samples of each member's next step, out of one copy of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from velodrome.trials.fused.order import Order

_AHEAD_BYTES = 1 << 20
"""Of small batches, several are cut at once, as much as stays in a core's cache."""


@dataclass(frozen=True, slots=True)
class Minibatch:
    """The samples of all members for one step.

    Attributes:
        parts: ``[K, B, ...]`` each.
        sizes: How many samples of its row are each member's own; others fill the batch.
    """

    parts: list[Tensor]
    sizes: list[int]

    @property
    def width(self) -> int:
        """Samples of a row."""
        return int(self.parts[0].shape[1])

    @property
    def is_padded(self) -> bool:
        """Whether some row is filled."""
        return min(self.sizes) < self.width

    def valid(self, dtype: torch.dtype) -> Tensor:
        """What each sample counts in the mean over its row's own, ``[K, B]``."""
        own = torch.tensor(self.sizes).unsqueeze(1)
        counts = (torch.arange(self.width) < own) / own.double()
        return counts.to(self.parts[0].device, dtype)


class Batches:
    """Cuts batches for K members, each in its own order.

    Args:
        data: Tensors whose first axis are samples.
        orders: Each member's.
        steps: How many each has done.
    """

    def __init__(self, data: Sequence[Tensor], orders: Sequence[Order], steps: np.ndarray[Any, Any]) -> None:
        self._data, self._orders = data, orders
        device, self._num_samples = data[0].device, len(data[0])
        self._samples = torch.zeros(len(orders), self._num_samples, dtype=torch.int64, device=device)
        self._sizes = np.array([order.batch_size for order in orders])
        self._per_epoch = np.array([order.steps_per_epoch for order in orders])
        places = steps % self._per_epoch
        self._begin(steps, np.flatnonzero(places))
        self._is_even = len({*zip(self._sizes.tolist(), places.tolist(), strict=True)}) == 1
        self._along = torch.arange(int(self._sizes.max()), device=device)
        num_bytes = sum(prod(part.shape[1:]) * part.element_size() for part in data)
        self._most = max(1, _AHEAD_BYTES // (num_bytes * int(self._sizes.sum())))
        self._ready: list[Minibatch] = []
        """What is cut already, the next one last."""

    def next(self, steps: np.ndarray[Any, Any]) -> Minibatch:
        """The batch of each member's step, counted from 0, ``[K]``; steps are asked for in their order."""
        if not self._ready:
            places = steps % self._per_epoch
            self._begin(steps, np.flatnonzero(places == 0))
            starts = places * self._sizes
            self._ready = self._cut(int(starts[0])) if self._is_even else [self._cut_uneven(starts)]
        return self._ready.pop()

    def _cut(self, start: int) -> list[Minibatch]:
        """The next batches where all members are at the same place; a last one that is shorter is by itself."""
        size, num = int(self._sizes[0]), len(self._orders)
        several = max(1, min((self._num_samples - start) // size, self._most))
        stop = min(start + several * size, self._num_samples)
        size = (stop - start) // several
        picked = self._samples[:, start:stop].view(num, several, size).transpose(0, 1).reshape(-1)
        parts = [part.index_select(0, picked).view(several, num, size, *part.shape[1:]) for part in self._data]
        batches = zip(*(part.unbind(0) for part in parts), strict=True)
        return [Minibatch(list(batch), [size] * num) for batch in batches][::-1]

    def _cut_uneven(self, starts: np.ndarray[Any, Any]) -> Minibatch:
        """The next batch of each member from where it is."""
        sizes = np.minimum(self._sizes, self._num_samples - starts)
        width = int(sizes.max())
        places = torch.from_numpy(starts).to(self._along.device).unsqueeze(1) + self._along[:width]
        picked = self._samples.gather(1, places.clamp_(max=self._num_samples - 1)).view(-1)
        parts = [part.index_select(0, picked).view(len(sizes), width, *part.shape[1:]) for part in self._data]
        return Minibatch(parts, sizes.tolist())

    def _begin(self, steps: np.ndarray[Any, Any], rows: Iterable[int]) -> None:
        """Puts the order of the epoch that a member is in into its row."""
        for k in rows:
            self._samples[k] = self._orders[k].epoch(int(steps[k]) // self._orders[k].steps_per_epoch)
