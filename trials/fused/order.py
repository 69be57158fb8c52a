"""Which samples a step sees: each epoch is a permutation of its own, drawn of the seed and the epoch's number alone."""

from __future__ import annotations

import torch
from torch import Tensor

from velodrome.seeding import derive


class Order:
    """The samples of one member's steps.

    Args:
        seed: The member's.
        num_samples: In the data.
        batch_size: Of a step; the last one of an epoch has what is left.
    """

    def __init__(self, seed: int, num_samples: int, batch_size: int) -> None:
        self._seed, self._num_samples, self.batch_size = seed, num_samples, batch_size
        self.steps_per_epoch = -(-num_samples // batch_size)

    def epoch(self, number: int) -> Tensor:
        """The samples of an epoch, counted from 0, in their order, ``[num_samples]``."""
        generator = torch.Generator().manual_seed(derive(self._seed, "order", number))
        return torch.randperm(self._num_samples, generator=generator)

    def span(self, step: int) -> tuple[int, int]:
        """Where in its epoch a step, counted from 0, begins and ends."""
        start = step % self.steps_per_epoch * self.batch_size
        return start, min(start + self.batch_size, self._num_samples)
