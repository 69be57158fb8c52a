"""Prioritised replay (Schaul et al. 2016): a sum tree to draw places by priority, and the weights against bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from velodrome.errors import UsageError, VeloError

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


class SumTree:
    """Weights of places, their sum, and draws in proportion to them, each in logarithmic time.

    Every inner node is the sum of its two children, computed anew when one changes: the tree depends on the weights
    alone, not on the order in which they came, and no rounding error builds up.

    Args:
        size: The number of places; all weigh 0 at first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._num_leaves = 1 << max(size - 1, 0).bit_length()
        self._nodes: Floats = np.zeros(2 * self._num_leaves)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._nodes[1])

    @property
    def weights(self) -> Floats:
        """``[size]``, a view not to be written to."""
        return self._nodes[self._num_leaves:self._num_leaves + self.size]

    def set(self, places: Indices, weights: Floats | float) -> None:
        """Sets the weights of places ``[B]``; of a place that comes more than once, the last one counts."""
        values = np.broadcast_to(np.asarray(weights, np.float64), places.shape)
        _set_leaves(self._nodes, self._num_leaves, places, values)

    def find(self, targets: Floats) -> Indices:
        """For each target in [0, total): the first place at which the running sum of the weights exceeds it.

        A place of weight 0 is never found, whatever rounding does, unless all are 0.
        """
        places: Indices = np.empty(len(targets), np.int64)
        _find_leaves(self._nodes, self._num_leaves, targets, places)
        return places


class Draw(NamedTuple):
    """Places drawn by priority, each ``[B]``."""

    places: Indices
    weights: Tensor
    """Importance weights, float32, the largest of them 1."""


class Priorities:
    """The priorities of a replay buffer's places: proportional prioritisation (Schaul et al. 2016, section 3.3).

    The calling loop: ``priorities.insert(buffer.add(...))`` per step; per update ``draw = priorities.sample(...)``,
    ``batch = buffer.gather(draw.places, ...)``, the mean of ``draw.weights * loss``, and
    ``priorities.update(draw.places, error)``.

    Args:
        size: The buffer's ``(capacity + 1) * num_envs``: a place that holds no transition has priority 0.
        alpha: How much priorities matter: 0 not at all.
        eps: Added to every error, so that none is never drawn again.
    """

    def __init__(self, size: int, *, alpha: float = 0.6, eps: float = 1e-6) -> None:
        self.alpha, self.eps = alpha, eps
        self._tree = SumTree(size)
        self._largest = 1.0

    def insert(self, places: Indices, valid: NDArray[np.bool_] | None = None) -> None:
        """Gives new transitions the largest priority so far, so that each is likely to be seen soon.

        Args:
            places: ``[N]``, a row of the buffer, as ``add`` returns it. The row below, which it is about to
                overwrite, is not drawn any more.
            valid: ``[N]``, False where there is no transition to draw; None for all.
        """
        self._tree.set((places + len(places)) % self._tree.size, 0.0)
        weights = np.full(len(places), self._largest**self.alpha)
        self._tree.set(places, weights if valid is None else np.where(valid, weights, 0.0))

    def sample(self, size: int, rng: Generator, *, beta: float) -> Draw:
        """``size`` places with probability ``P(i) = p_i^alpha / sum p^alpha``, one from each of as many equal ranges.

        Args:
            size: B.
            rng: Draws them.
            beta: How much of the bias is undone: 1 for all of it. The weights are ``(1 / (size of buffer P(i)))^beta``
                over the largest of the minibatch; the buffer's size cancels.

        Raises:
            UsageError: If nothing was inserted.
        """
        total = self._tree.total
        if total <= 0.0:
            raise UsageError("There is nothing to draw by priority", given="no transitions", allowed="at least 1")
        places = self._tree.find((np.arange(size) + rng.random(size)) * (total / size))
        weights = (self._tree.weights[places] / total) ** -beta
        return Draw(places, torch.from_numpy((weights / weights.max()).astype(np.float32)))

    def update(self, places: Indices, errors: Tensor) -> None:
        """Sets the priorities of drawn transitions to the absolute values of their errors ``[B]``.

        Raises:
            VeloError: If an error is NaN or infinite.
        """
        priorities: Floats = np.abs(errors.detach().cpu().numpy().astype(np.float64)) + self.eps
        if not np.isfinite(priorities).all():
            raise VeloError("A priority is not finite", given=str(priorities[~np.isfinite(priorities)][0]),
                            allowed="finite errors", hint="the learner diverged: lower its learning rate")
        self._largest = max(self._largest, float(priorities.max()))
        self._tree.set(places, priorities**self.alpha)

    def state(self) -> dict[str, Tensor]:
        """All that is stored, on the CPU; ``load_state`` takes it back to the last bit."""
        weights = torch.from_numpy(self._tree.weights.copy())
        return {"weights": weights, "largest": torch.tensor(self._largest, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over a ``state()`` of the same size; raises UsageError for another."""
        weights = state["weights"].numpy()
        if len(weights) != self._tree.size:
            raise UsageError("The state of other priorities", given=f"{len(weights)} places",
                             allowed=f"{self._tree.size}")
        self._tree.set(np.arange(self._tree.size), weights)
        self._largest = float(state["largest"])


def _set_leaves_python(nodes: Floats, num_leaves: int, places: Indices, weights: Floats) -> None:
    """Sets the leaves, and makes every node above one the sum of its children."""
    for i in range(len(places)):
        node = places[i] + num_leaves
        nodes[node] = weights[i]
        while node > 1:
            node //= 2
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]


def _find_leaves_python(nodes: Floats, num_leaves: int, targets: Floats, places: Indices) -> None:
    """Fills ``places``, going down from the root: left while the target is below the left child's sum."""
    for i in range(len(targets)):
        node, left_over = 1, targets[i]
        while node < num_leaves:
            node *= 2
            if left_over >= nodes[node] and nodes[node + 1] > 0.0:
                left_over -= nodes[node]
                node += 1
        places[i] = node - num_leaves


_set_leaves: Callable[..., None] = numba.njit(cache=True, nogil=True)(_set_leaves_python)
_find_leaves: Callable[..., None] = numba.njit(cache=True, nogil=True)(_find_leaves_python)
