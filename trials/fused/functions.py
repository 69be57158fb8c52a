"""Functions of ``torch.nn.functional`` that a group needs in another form, for one member under ``vmap``.

Dropout takes its masks as inputs; a label smoothing may be a member's own number; a normalisation leaves out the
samples of a shorter batch and the features of a narrower layer, which are there only to fill the shape. Below
``vmap``, ``torch.autocast`` does not find the layers any more: where they are to compute in bfloat16, they are told so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from velodrome.trials.fused.dropout import Rate, plain_attention


class Given:
    """Masks of dropout from numbers that are drawn outside.

    Args:
        uniforms: In [0, 1), by call of dropout.
        rates: Which part each drops, ``[]``.
        scales: What each multiplies with, ``[]``.
    """

    def __init__(self, uniforms: Sequence[Tensor], rates: Sequence[Tensor], scales: Sequence[Tensor]) -> None:
        self._sites = iter(zip(uniforms, rates, scales, strict=True))

    def keep(self, like: Tensor, shape: torch.Size, p: float) -> tuple[Tensor, Rate]:
        """The next mask."""
        uniform, rate, scale = next(self._sites)
        return uniform >= rate, scale


_PRODUCTS = (
    "linear", "bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
)


def stand_ins(valid: Tensor | None, masks: Mapping[int, Tensor]) -> dict[str, Callable[..., Any]]:
    """The functions by name.

    Args:
        valid: What each sample counts, ``[B]``, 0 for those that fill the batch; None where all count the same.
        masks: 1 for a layer's own features and 0 for what fills its width, by the ``id`` of its weight.
    """
    batch_norm, layer_norm, cross_entropy, embedding = F.batch_norm, F.layer_norm, F.cross_entropy, F.embedding

    def our_batch_norm(
        input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
        bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor:
        input = _as(input, weight)
        if valid is None or not training:
            return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        return _batch_norm(input, valid, running_mean, running_var, weight, bias, momentum, eps)

    def our_layer_norm(
        input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        input, mask = _as(input, weight), masks.get(id(weight))
        if mask is None:
            return layer_norm(input, list(normalized_shape), weight, bias, eps)
        return _layer_norm(input, mask, weight, bias, eps)

    def our_cross_entropy(
        input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: None = None,
        ignore_index: int = -100, reduce: None = None, reduction: str = "mean", label_smoothing: Any = 0.0,
    ) -> Tensor:
        if weight is not None or target.is_floating_point() or input.ndim < 2:
            return cross_entropy(input, target, weight, ignore_index=ignore_index, reduction=reduction,
                                 label_smoothing=label_smoothing)
        return _cross_entropy(input.to(torch.promote_types(input.dtype, torch.float32)), target, ignore_index,
                              reduction, label_smoothing)

    def our_embedding(
        input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
        norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
    ) -> Tensor:
        found = embedding(input, weight, None, max_norm, norm_type, scale_grad_by_freq, sparse)
        if padding_idx is None:
            return found
        is_padding = (input == padding_idx % weight.shape[0]).unsqueeze(-1)
        return torch.where(is_padding, found.detach(), found)

    return {
        "embedding": our_embedding, "batch_norm": our_batch_norm, "layer_norm": our_layer_norm,
        "cross_entropy": our_cross_entropy, "scaled_dot_product_attention": plain_attention,
    }


def rough() -> dict[str, Callable[..., Any]]:
    """Layers that compute in bfloat16, by name."""
    def rounding(function: Callable[..., Any]) -> Callable[..., Any]:
        def ours(*args: Any, **kwargs: Any) -> Any:
            return function(*map(_rounded, args), **{key: _rounded(arg) for key, arg in kwargs.items()})

        return ours

    return {name: rounding(getattr(F, name)) for name in _PRODUCTS}


def _rounded(value: Any) -> Any:
    is_single = isinstance(value, Tensor) and value.dtype is torch.float32
    return value.bfloat16() if is_single else value


def _as(x: Tensor, weight: Tensor | None) -> Tensor:
    """What is to be normalised, in the type of the layer's weights."""
    return x if weight is None or x.dtype == weight.dtype else x.to(weight.dtype)


def _batch_norm(
    x: Tensor, valid: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None,
    bias: Tensor | None, momentum: float, eps: float,
) -> Tensor:
    """Batch normalisation (Ioffe and Szegedy 2015) over the samples that count."""
    others = [0, *range(2, x.ndim)]
    place = [1, -1, *[1] * (x.ndim - 2)]
    counts = (valid > 0).to(x.dtype).view(-1, *[1] * (x.ndim - 1))
    num = counts.sum() * math.prod(x.shape[2:])
    mean = (x * counts).sum(others) / num
    from_mean = x - mean.view(place)
    var = (from_mean * from_mean * counts).sum(others) / num
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.mul_(1.0 - momentum).add_(momentum * mean)
            running_var.mul_(1.0 - momentum).add_(momentum * var * (num / (num - 1.0)))
    y = from_mean * (var + eps).rsqrt().view(place)
    if weight is not None:
        y = y * weight.view(place)
    return y if bias is None else y + bias.view(place)


def _layer_norm(x: Tensor, mask: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Layer normalisation (Ba et al. 2016) over a layer's own features."""
    dims = list(range(-mask.ndim, 0))
    num = mask.sum()
    mean = (x * mask).sum(dims, keepdim=True) / num
    from_mean = (x - mean) * mask
    y = from_mean * ((from_mean * from_mean).sum(dims, keepdim=True) / num + eps).rsqrt()
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def _cross_entropy(x: Tensor, target: Tensor, ignore_index: int, reduction: str, smoothing: Any) -> Tensor:
    """Cross entropy with label smoothing (Szegedy et al. 2016), as torch defines it, for labels that are numbers.

    torch's own takes more operations under ``vmap``, and the first time loads a library for symbols.
    """
    logs = x.log_softmax(1)
    counts = target != ignore_index
    losses = -logs.gather(1, torch.where(counts, target, 0).unsqueeze(1)).squeeze(1)
    if isinstance(smoothing, Tensor) or smoothing:
        losses = (1.0 - smoothing) * losses - smoothing * logs.mean(1)
    losses = torch.where(counts, losses, 0.0)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / counts.sum()
