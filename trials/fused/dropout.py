"""Dropout whose masks come from a generator of the member's own, so that a member drops the same alone and in a group.

torch's dropout takes no generator. While a member's model runs, the functions below stand in ``torch.nn.functional`` in
place of torch's, and so serve ``nn.Dropout``, ``nn.MultiheadAttention``, the Transformer's layers and a user's own
calls of ``F.dropout``. The process must not run other models meanwhile, in another thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Generator, Tensor

Rate = float | Tensor


class Source(Protocol):
    """Where masks come from; asked once by each dropout of a forward pass, in order."""

    def keep(self, like: Tensor, shape: torch.Size, p: float) -> tuple[Tensor, Rate]:
        """What stays, as a mask of that shape, and what it is multiplied with."""
        ...


class Site(NamedTuple):
    """One call of dropout in a forward pass."""

    shape: torch.Size
    p: float


class Drawn:
    """Masks drawn as they are asked for, alone.

    Args:
        generator: The member's, on the model's device.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.sites: list[Site] = []
        self.is_noting = False

    def keep(self, like: Tensor, shape: torch.Size, p: float) -> tuple[Tensor, Rate]:
        """A mask of new numbers."""
        if self.is_noting:
            self.sites.append(Site(shape, p))
        uniform = torch.rand(shape, generator=self.generator, device=like.device)
        return uniform >= p, scale_of(p)


def scale_of(p: float) -> float:
    """What keeps the mean where a part ``p`` is dropped."""
    return 1.0 / max(1.0 - p, 1e-12)


class dropping_by:  # noqa: N801 - read as: with dropping_by(source)
    """While it lasts, dropout asks the source.

    Args:
        source: Where masks come from.
        others: More functions of ``torch.nn.functional`` to stand in for, by name.
    """

    def __init__(self, source: Source, others: dict[str, Callable[..., Any]] | None = None) -> None:
        self._ours = {**_functions(source), **(others or {})}
        self._theirs: dict[str, Any] = {}

    def __enter__(self) -> None:
        self._theirs = {name: getattr(F, name) for name in self._ours}
        vars(F).update(self._ours)

    def __exit__(self, *_: object) -> None:
        vars(F).update(self._theirs)


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:
    """Attention of scaled products (Vaswani et al. 2017) by the operations of its definition."""
    if enable_gqa:
        raise NotImplementedError("attention with fewer keys than queries (enable_gqa)")
    scores = query @ key.transpose(-2, -1) * (scale if scale is not None else 1.0 / math.sqrt(query.shape[-1]))
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype is torch.bool else scores + attn_mask
    weights = scores.softmax(-1)
    return (F.dropout(weights, dropout_p) if dropout_p else weights) @ value


def _functions(source: Source) -> dict[str, Callable[..., Any]]:
    """What stands in ``torch.nn.functional`` while the source is asked."""
    attention = F.scaled_dot_product_attention

    def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training:
            return input
        return _dropped(source, input, input.shape, p)

    def feature_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training:
            return input
        return _dropped(source, input, torch.Size([*input.shape[:2], *[1] * (input.ndim - 2)]), p)

    def scaled_dot_product_attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:
        if not dropout_p or enable_gqa:
            return attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        return plain_attention(query, key, value, attn_mask, dropout_p, is_causal, scale)

    return {
        "dropout": dropout, "dropout1d": feature_dropout, "dropout2d": feature_dropout, "dropout3d": feature_dropout,
        "scaled_dot_product_attention": scaled_dot_product_attention,
    }


def _dropped(source: Source, x: Tensor, shape: torch.Size, p: float) -> Tensor:
    keep, scale = source.keep(x, shape, p)
    return x * (keep.to(x.dtype) * scale)
