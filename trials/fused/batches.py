"""The samples of each member's next step, out of one copy of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from velodrome.trials.fused.order import Order


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
        device, num_samples = data[0].device, len(data[0])
        self._samples = torch.zeros(len(orders), num_samples, dtype=torch.int64, device=device)
        for k, (order, step) in enumerate(zip(orders, steps.tolist(), strict=True)):
            if order.span(step)[0]:
                self._samples[k] = order.epoch(step // order.steps_per_epoch)
        self._is_even = len({(order.batch_size, step % order.steps_per_epoch)
                             for order, step in zip(orders, steps.tolist(), strict=True)}) == 1
        self._along = torch.arange(max(order.batch_size for order in orders), device=device)

    def next(self, steps: np.ndarray[Any, Any]) -> Minibatch:
        """The batch of each member's step, counted from 0, ``[K]``; steps are asked for in their order."""
        num = len(self._orders)
        if self._is_even:
            start, stop = self._orders[0].span(int(steps[0]))
            self._begin(steps, range(num) if start == 0 else ())
            picked, sizes = self._samples[:, start:stop], [stop - start] * num
        else:
            spans = [order.span(step) for order, step in zip(self._orders, steps.tolist(), strict=True)]
            self._begin(steps, [k for k, (start, _) in enumerate(spans) if start == 0])
            sizes = [stop - start for start, stop in spans]
            starts = torch.tensor([[start] for start, _ in spans], device=self._along.device)
            places = (starts + self._along[: max(sizes)]).clamp_(max=self._samples.shape[1] - 1)
            picked = self._samples.gather(1, places)
        flat, shape = picked.reshape(-1), picked.shape
        return Minibatch([part.index_select(0, flat).view(*shape, *part.shape[1:]) for part in self._data], sizes)

    def _begin(self, steps: np.ndarray[Any, Any], rows: Iterable[int]) -> None:
        """Begins an epoch in some rows."""
        for k in rows:
            self._samples[k] = self._orders[k].epoch(int(steps[k]) // self._orders[k].steps_per_epoch)
