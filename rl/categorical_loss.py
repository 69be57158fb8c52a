"""PPO's whole loss for one discrete action as one node of the graph: its figures, and its gradient in the same pass.

On a CPU the fifty small operations of ``distributions`` and ``losses``, there and back, take as long as the networks of
CartPole. Here one compiled loop over the rows does them. Both give the same numbers, up to rounding; elsewhere, and for
other actions, those are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The settings of the loss: those of ``PPOConfig`` with the same names."""

    clip: float
    clip_value: float
    value_coef: float
    entropy_coef: float


def serves(head: Tensor) -> bool:
    """Whether the loop can be used for what a network gave."""
    return head.device.type == "cpu" and head.dtype == torch.float32


def categorical_loss(
    head: Tensor, value: Tensor, mask: Tensor | None, action: Tensor, old_log_prob: Tensor, old_value: Tensor,
    advantage: Tensor, target: Tensor, weights: LossWeights,
) -> tuple[Tensor, Tensor]:
    """The loss, and its parts.

    Args:
        head: ``[B, K]``, logits.
        value: ``[B]``.
        mask: ``[B, K]``, bool, True where an action is legal; None for all.
        action: ``[B]``, int64.
        old_log_prob: ``[B]``, of the actions by the policy that acted.
        old_value: ``[B]``, by the critic that acted.
        advantage: ``[B]``, normalised or not.
        target: ``[B]``, what the values should be.
        weights: The settings.

    Returns:
        The loss, a scalar to descend; and ``[5]``: policy loss, value loss, entropy, approximate KL, share of clipped
        rows.
    """
    rows = [part.detach().contiguous() for part in (action, old_log_prob, old_value, advantage, target)]
    result: tuple[Tensor, Tensor] = _Loss.apply(head, value, mask, rows, weights)  # type: ignore[no-untyped-call]  # torch
    return result


class _Loss(torch.autograd.Function):
    """The kernel as a node. The gradient is that of the loss; the figures have none."""

    @staticmethod
    def forward(
        ctx: Any, head: Tensor, value: Tensor, mask: Tensor | None, rows: list[Tensor], weights: LossWeights
    ) -> tuple[Tensor, Tensor]:
        by_head, by_value = torch.empty_like(head, memory_format=torch.contiguous_format), torch.empty(len(value))
        legal = np.ones((1, 1), np.bool_) if mask is None else mask.numpy()
        figures = np.zeros(5)
        _kernel(
            head.detach().contiguous().numpy(), value.detach().contiguous().numpy(), legal, mask is not None,
            *(row.numpy() for row in rows), weights.clip, weights.clip_value, weights.value_coef,
            weights.entropy_coef, by_head.numpy(), by_value.numpy(), figures,
        )
        policy, of_value, entropy = figures[:3]
        loss = policy + weights.value_coef * of_value - weights.entropy_coef * entropy
        ctx.save_for_backward(by_head, by_value)
        parts = torch.from_numpy(figures.astype(np.float32))
        ctx.mark_non_differentiable(parts)
        return head.new_tensor(loss), parts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        by_head, by_value = ctx.saved_tensors
        return by_head * by_loss, by_value * by_loss, None, None, None


def _kernel_python(
    head: Floats, value: Floats, legal: NDArray[np.bool_], has_mask: bool, action: NDArray[np.int64],
    old_log_prob: Floats, old_value: Floats, advantage: Floats, target: Floats, clip: float, clip_value: float,
    value_coef: float, entropy_coef: float, by_head: Floats, by_value: Floats, figures: NDArray[np.float64],
) -> None:
    """Fills the gradients by head and value, and adds up the figures (``categorical_loss``), row by row."""
    num_rows, num_actions = head.shape
    share = 1.0 / num_rows
    for b in range(num_rows):
        # The softmax over the legal actions: by_head holds probabilities for now.
        highest, total, entropy = -math.inf, 0.0, 0.0
        for k in range(num_actions):
            if not has_mask or legal[b, k]:
                highest = max(highest, head[b, k])
        for k in range(num_actions):
            by_head[b, k] = math.exp(head[b, k] - highest) if not has_mask or legal[b, k] else 0.0
            total += by_head[b, k]
        log_total = highest + math.log(total)
        for k in range(num_actions):
            by_head[b, k] /= total
            if not has_mask or legal[b, k]:
                entropy -= by_head[b, k] * (head[b, k] - log_total)
        # The clipped surrogate, and its slope by the action's log-probability.
        a = action[b]
        log_ratio = head[b, a] - log_total - old_log_prob[b] if not has_mask or legal[b, a] else -math.inf
        above_1 = math.expm1(log_ratio)
        ratio = 1.0 + above_1
        plain = ratio * advantage[b]
        clipped = min(max(ratio, 1.0 - clip), 1.0 + clip) * advantage[b]
        slope = -plain * share if not plain > clipped else 0.0
        # Down to the logits: d log p_a / d z_k = [a = k] - p_k, dH / d z_k = -p_k (log p_k + H).
        for k in range(num_actions):
            p = by_head[b, k]
            if not has_mask or legal[b, k]:
                by_entropy = p * (head[b, k] - log_total + entropy)
                by_head[b, k] = slope * ((1.0 if k == a else 0.0) - p) + entropy_coef * share * by_entropy
        # Half the squared error of the value, clipped if asked.
        error = value[b] - target[b]
        squared, by_value[b] = error * error, value_coef * share * error
        moved = value[b] - old_value[b]
        if 0.0 < clip_value < abs(moved):
            held = old_value[b] + math.copysign(clip_value, moved) - target[b]
            if held * held > squared:
                squared, by_value[b] = held * held, 0.0
        figures[0] -= share * (clipped if plain > clipped else plain)
        figures[1] += 0.5 * share * squared
        figures[2] += share * entropy
        figures[3] += share * (above_1 - log_ratio)
        figures[4] += share if abs(above_1) > clip else 0.0


_kernel: Callable[..., None] = numba.njit(cache=True, nogil=True, error_model="numpy")(_kernel_python)
