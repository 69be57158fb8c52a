"""Noise that lasts: exploration that goes somewhere before it changes its mind.

With fresh noise at every step, a car in a valley trembles on the spot; with noise that keeps its direction for a while
it climbs (Eberhard et al. 2023, "Pink noise is all you need", compare such processes). This is the one of Ornstein and
Uhlenbeck in discrete time, ``n_t = m n_{t-1} + sqrt(1 - m^2) e_t``: every ``n_t`` by itself is standard normal.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


class Wander:
    """Standard normal noise with a memory.

    Args:
        memory: ``m``, in [0, 1): how much of it is there still at the next step; 0 for fresh noise.
    """

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self._noise: Tensor | None = None

    def draw(self, like: Tensor, generator: Generator | None) -> Tensor:
        """Noise of the shape and on the device of ``like``; the generator is there, too."""
        fresh = torch.randn(like.shape, generator=generator, device=like.device)
        if self._noise is None or not self.memory:
            self._noise = fresh
        else:
            self._noise = self.memory * self._noise.to(like.device) + math.sqrt(1.0 - self.memory**2) * fresh
        return self._noise

    def state(self) -> Tensor | None:
        """What ``load`` needs."""
        return None if self._noise is None else self._noise.clone()

    def load(self, state: Tensor | None) -> None:
        """Goes on from a state."""
        self._noise = state
