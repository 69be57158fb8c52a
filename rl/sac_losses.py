"""Losses of soft actor-critic (Haarnoja et al. 2018, "Soft actor-critic algorithms and applications"), and of CrossQ.

Shapes: ``[B]`` transitions, M critics. Scalars are means over the batch. ``discount`` is ``gamma^n``, and 0 where
the episode terminated, as in ``td_losses``.

CrossQ (Bhatt et al. 2024) has the same three losses and no target network. Its critics normalise over the batch, so
both sides of the Bellman error must go through in one pass: the observations, actions ``[s; s']``, ``[a; a']``
concatenated to ``2 B``, in training mode. The first B outputs are ``q``, the others, detached, are ``q_tp1``. Two
passes of B each would normalise with two different statistics, and diverge.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def soft_target(r: Tensor, discount: Tensor, q_tp1: Tensor, log_prob_tp1: Tensor, alpha: Tensor | float) -> Tensor:
    """``r + discount (min_i Q_i(s', a') - alpha log pi(a' | s'))``, equations 2 and 3, a' drawn from the policy.

    Args:
        r: ``[B]``.
        discount: ``[B]``.
        q_tp1: ``[M, B]``, by the target critics (CrossQ: by the critics themselves).
        log_prob_tp1: ``[B]``, of a'.
        alpha: The temperature.

    Returns:
        ``[B]``, without gradient.
    """
    return r + discount * (q_tp1.amin(0) - alpha * log_prob_tp1)


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Equation 5: half of the mean squared error of each critic, summed over the critics.

    Args:
        q: ``[M, B]``.
        target: ``[B]``, the same for all critics.
    """
    return 0.5 * (q - target.detach()).square().mean(-1).sum()


def actor_loss(q: Tensor, log_prob: Tensor, alpha: Tensor | float) -> Tensor:
    """Equation 9: the mean of ``alpha log pi(a | s) - min_i Q_i(s, a)`` for reparameterised a.

    Args:
        q: ``[M, B]``, of the drawn actions; gradients flow through the actions, so hold the critics' parameters still.
        log_prob: ``[B]``, of the drawn actions.
        alpha: The temperature; no gradient flows to it.
    """
    if isinstance(alpha, Tensor):
        alpha = alpha.detach()
    return (alpha * log_prob - q.amin(0)).mean()


def temperature_loss(log_alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Equation 18: the mean of ``-alpha (log pi(a | s) + H)``: the temperature rises while the entropy is below ``H``.

    Args:
        log_alpha: A scalar; its exponential is the temperature, which stays above 0.
        log_prob: ``[B]``; no gradient flows to it.
        target_entropy: ``H``, usually minus the number of action dimensions.
    """
    return -(log_alpha.exp() * (log_prob.detach() + target_entropy).mean())
