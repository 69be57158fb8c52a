"""Distributions over discrete actions: categorical, with or without illegal actions, multi-discrete and multi-binary.

Each is made of a network's output and is light: no checks of values, no lazy attributes, few small operations (a
third of what ``torch.distributions`` takes on small batches, half on large ones). Shapes: ``[...]`` is any batch shape,
such as ``[B]`` or ``[T, N]``; log-probabilities, entropies and divergences have that shape, in nats. Sampling takes
its generator as an argument, and no gradient flows through a sample. Log-probabilities, entropies and divergences
can be differentiated by the logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, Self

import torch
from torch import Generator, Tensor
from torch.nn import functional

from velodrome.errors import UsageError


class Distribution(Protocol):
    """What a policy head gives for a batch of observations.

    The calling loop: ``pi = head(features)``, ``a = pi.sample(generator)``, ``pi.log_prob(a)`` when acting;
    ``pi.log_prob(a)`` of the stored actions and ``pi.entropy()`` when learning; ``pi.mode()`` when evaluating.
    """

    def sample(self, generator: Generator | None = None) -> Tensor:
        """An action per row of the batch. The generator is on the distribution's device."""

    def mode(self) -> Tensor:
        """The most likely action."""

    def log_prob(self, action: Tensor) -> Tensor:
        """The log of the probability (of the density, if actions are real numbers) of each row's action."""

    def entropy(self) -> Tensor:
        """The entropy of each row."""

    def kl(self, other: Self) -> Tensor:
        """KL(self || other) of each row; ``other`` is of the same class and shape."""


class Categorical:
    """One of K actions; those that the mask forbids have probability 0 exactly.

    A forbidden action is never drawn, its log-probability is -inf, and neither it nor the entropy passes any
    gradient to its logit (Huang and Ontanon 2022). With one legal action left, the entropy is 0.

    Args:
        logits: ``[..., K]``, need not be normalised.
        mask: ``[..., K]``, bool, True where the action is legal; every row needs one. None if all are legal.

    Raises:
        UsageError: If a row has no legal action (on a CPU; elsewhere its log-probabilities are NaN, to save a
            synchronisation), or if the shapes differ.
    """

    __slots__ = ("_illegal", "_log_probs", "_logits")

    def __init__(self, logits: Tensor, mask: Tensor | None = None) -> None:
        self._illegal: Tensor | None = None
        if mask is not None:
            _check_mask(logits, mask)
            self._illegal = ~mask
            logits = logits.masked_fill(self._illegal, -math.inf)
        self._logits = logits
        self._log_probs: Tensor | None = None  # to draw an action they are not needed

    @property
    def log_probs(self) -> Tensor:
        """``[..., K]``."""
        if self._log_probs is None:
            self._log_probs = self._logits.log_softmax(-1)
        return self._log_probs

    @property
    def probs(self) -> Tensor:
        """``[..., K]``."""
        return self.log_probs.exp()

    def sample(self, generator: Generator | None = None) -> Tensor:
        """``[...]``, int64. By the Gumbel-max trick (Maddison et al. 2014): the first of K exponential clocks."""
        with torch.no_grad():
            clocks = torch.empty_like(self._logits).exponential_(generator=generator)
            # Some builds of torch may draw 0, whose logarithm would make NaN of an illegal action, and so the winner.
            clocks.clamp_(min=torch.finfo(clocks.dtype).tiny)
            return (self._logits - clocks.log_()).argmax(-1)

    def mode(self) -> Tensor:
        """``[...]``, int64; the first of several that are equally likely."""
        return self._logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Of ``action``, ``[...]``, int64."""
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """``-sum p log p``, where 0 log 0 is 0."""
        return -(self.probs * self._finite(self.log_probs)).sum(-1)

    def kl(self, other: Categorical) -> Tensor:
        """``sum p (log p - log q)``; infinite where ``other`` forbids what this one does not."""
        difference = self.log_probs - other.log_probs
        return (self.probs * self._finite(difference)).sum(-1)

    def _finite(self, x: Tensor) -> Tensor:
        """0 for the illegal actions, in place of infinity, which would make NaN of its product with 0."""
        return x if self._illegal is None else x.masked_fill(self._illegal, 0.0)


class MultiDiscrete:
    """K independent categorical actions of different sizes.

    All K are computed as one categorical batch, padded to the largest size with illegal actions; with very unequal
    sizes this takes more memory than the logits do.

    Args:
        logits: ``[..., sum(nvec)]``, those of the first action first.
        nvec: The number of choices of each action.
        mask: ``[..., sum(nvec)]``, bool, True where the choice is legal, or None.

    Raises:
        UsageError: If the shapes don't fit, or an action has no legal choice (see ``Categorical``).
    """

    __slots__ = ("_parts",)

    def __init__(self, logits: Tensor, nvec: Sequence[int], mask: Tensor | None = None) -> None:
        if logits.shape[-1] != sum(nvec):
            raise UsageError("Logits don't fit the multi-discrete space", given=f"{logits.shape[-1]} logits",
                             allowed=f"{sum(nvec)}, the sum of {list(nvec)}")
        place, legal = _padding(tuple(nvec), logits.device)
        padded = logits[..., place]
        if mask is not None:
            legal = mask[..., place] & legal
        self._parts = Categorical(padded, legal.expand(padded.shape))

    def sample(self, generator: Generator | None = None) -> Tensor:
        """``[..., K]``, int64."""
        return self._parts.sample(generator)

    def mode(self) -> Tensor:
        """``[..., K]``, int64."""
        return self._parts.mode()

    def log_prob(self, action: Tensor) -> Tensor:
        """Of ``action``, ``[..., K]``, int64: the sum over the K actions."""
        return self._parts.log_prob(action).sum(-1)

    def entropy(self) -> Tensor:
        """The sum over the K actions."""
        return self._parts.entropy().sum(-1)

    def kl(self, other: MultiDiscrete) -> Tensor:
        """The sum over the K actions."""
        return self._parts.kl(other._parts).sum(-1)


class MultiBinary:
    """K independent yes-or-no actions (Bernoulli).

    Args:
        logits: ``[..., K]``, log(p / (1 - p)) of yes.
    """

    __slots__ = ("logits",)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def probs(self) -> Tensor:
        """``[..., K]``, of yes."""
        return self.logits.sigmoid()

    def sample(self, generator: Generator | None = None) -> Tensor:
        """``[..., K]``, int8, 0 or 1, as Gymnasium's MultiBinary has them."""
        with torch.no_grad():
            u = torch.rand(self.logits.shape, generator=generator, dtype=self.logits.dtype, device=self.logits.device)
            return (u < self.probs).to(torch.int8)

    def mode(self) -> Tensor:
        """``[..., K]``, int8; 0 where both are equally likely."""
        return (self.logits > 0).to(torch.int8)

    def log_prob(self, action: Tensor) -> Tensor:
        """Of ``action``, ``[..., K]``, 0 or 1: ``a l - log(1 + e^l)``, summed over K."""
        return (action * self.logits - functional.softplus(self.logits)).sum(-1)

    def entropy(self) -> Tensor:
        """``log(1 + e^l) - p l``, summed over K."""
        return (functional.softplus(self.logits) - self.probs * self.logits).sum(-1)

    def kl(self, other: MultiBinary) -> Tensor:
        """``p (l - l') - log(1 + e^l) + log(1 + e^l')``, summed over K."""
        normalisers = functional.softplus(other.logits) - functional.softplus(self.logits)
        return (self.probs * (self.logits - other.logits) + normalisers).sum(-1)


def _check_mask(logits: Tensor, mask: Tensor) -> None:
    """Raises UsageError for a mask of a wrong type or shape, or (on a CPU) a row without a legal action."""
    if mask.dtype != torch.bool or mask.shape != logits.shape:
        raise UsageError("The action mask does not fit the logits", given=f"{mask.dtype} {list(mask.shape)}",
                         allowed=f"torch.bool {list(logits.shape)}, True where an action is legal")
    if mask.device.type == "cpu" and not bool(mask.any(-1).all()):
        row = (~mask.any(-1)).nonzero()[0].tolist()
        raise UsageError("An action mask forbids every action", given=f"row {row} of {list(mask.shape[:-1])}",
                         allowed="at least one legal action per row", hint="end the episode where nothing can be done")


@lru_cache(maxsize=64)
def _padding(nvec: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each of ``[K, M]`` padded logits comes from, and whether it is one; M is the largest size."""
    choice = torch.arange(max(nvec))
    sizes = torch.tensor(nvec).unsqueeze(1)
    first = sizes.cumsum(0) - sizes
    legal = choice < sizes
    return torch.where(legal, first + choice, 0).to(device), legal.to(device)
