"""Losses of policy-gradient methods, and what to watch while they fall.

Pure functions of tensors of one shape, ``[B]`` for a minibatch; every loss is the mean over it, a scalar to be
minimised. Advantages, returns and old log-probabilities are constants: no gradient flows through them. Weighting by
importance or by a padding mask is not handled: select the rows first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from velodrome.errors import UsageError


class PolicyLoss(NamedTuple):
    """A clipped surrogate loss and its diagnostics; all scalars, the last two without gradient."""

    loss: Tensor
    approx_kl: Tensor
    """An estimate of KL(old || new), in nats."""
    clip_fraction: Tensor
    """The share of the minibatch whose ratio is outside the clip range."""


def normalize_advantage(advantage: Tensor, eps: float = 1e-8) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over the minibatch; a single one is left as it is.

    Not from a paper: what the implementations do (Huang et al. 2022, "The 37 implementation details of PPO", detail 7).

    Returns:
        The shape of ``advantage``.
    """
    if advantage.numel() < 2:
        return advantage
    std, mean = torch.std_mean(advantage)
    return (advantage - mean) / (std + eps)


def clipped_surrogate(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, *, clip_range: float) -> PolicyLoss:
    """PPO's policy loss (Schulman et al. 2017, equation 7): ``-mean min(r A, clip(r, 1 - e, 1 + e) A)``.

    Args:
        log_prob: ``[B]``, of the stored actions by the policy that learns.
        old_log_prob: ``[B]``, of the same by the policy that acted.
        advantage: ``[B]``, normalised or not.
        clip_range: ``e``, such as 0.2.
    """
    _check_alike(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage)
    advantage = advantage.detach()
    log_ratio = log_prob - old_log_prob.detach()
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
    with torch.no_grad():
        outside = ((ratio - 1.0).abs() > clip_range).to(ratio.dtype).mean()
    return PolicyLoss(loss, approx_kl(log_ratio), outside)


@torch.no_grad()
def approx_kl(log_ratio: Tensor) -> Tensor:
    """KL(old || new), estimated from actions of the old policy: the mean of ``r - 1 - log r`` (Schulman 2020, "k3").

    Unbiased, never negative, of a low variance.

    Args:
        log_ratio: ``[B]``, log of (new probability / old probability).

    Returns:
        A scalar, in nats, without gradient.
    """
    return (torch.expm1(log_ratio) - log_ratio).mean()


def policy_gradient(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """The plain policy-gradient loss ``-mean(A log pi(a))`` (Sutton et al. 2000), for A2C and V-trace.

    Args:
        log_prob: ``[B]`` or ``[T, N]``.
        advantage: The same shape. V-trace's are weighted by their ratio already.
    """
    _check_alike(log_prob=log_prob, advantage=advantage)
    return -(log_prob * advantage.detach()).mean()


def value_loss(v: Tensor, target: Tensor, *, old_v: Tensor | None = None, clip_range: float | None = None) -> Tensor:
    """Half of the mean squared error of a value function; clipped as in PPO's first code, if asked.

    Clipped, it is ``0.5 mean max((v - G)^2, (clip(v, v_old - e, v_old + e) - G)^2)`` (Huang et al. 2022, detail 9):
    in units of the return, so that ``e`` depends on the scale of rewards. Evidence is that it does not help.

    Args:
        v: ``[B]``.
        target: ``[B]``, returns.
        old_v: ``[B]``, the values when the rollout was made. Needed with ``clip_range``.
        clip_range: ``e``; None for the plain error.

    Raises:
        UsageError: If ``clip_range`` is given without ``old_v``.
    """
    _check_alike(v=v, target=target)
    target = target.detach()
    if clip_range is None:
        return 0.5 * (v - target).square().mean()
    if old_v is None:
        raise UsageError("A clipped value loss needs the old values", given="old_v=None", allowed="old_v=[B]")
    _check_alike(v=v, old_v=old_v)
    old_v = old_v.detach()
    clipped = old_v + (v - old_v).clamp(-clip_range, clip_range)
    return 0.5 * torch.maximum((v - target).square(), (clipped - target).square()).mean()


@torch.no_grad()
def explained_variance(v: Tensor, target: Tensor) -> Tensor:
    """``1 - Var(G - v) / Var(G)``: 1 for a perfect value function, 0 for a constant one, less for a worse one.

    Returns:
        A scalar; NaN where the returns do not vary.
    """
    _check_alike(v=v, target=target)
    variance = target.var(correction=0)
    return torch.where(variance > 0, 1.0 - (target - v).var(correction=0) / variance, torch.nan)


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Huber's loss of each element (Huber 1964): ``e^2 / 2`` up to ``delta``, then ``delta (|e| - delta / 2)``."""
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def _check_alike(**tensors: Tensor) -> None:
    """Raises UsageError unless all have one shape: ``[B, 1] - [B]`` would be ``[B, B]``, silently."""
    (first, tensor), *others = tensors.items()
    for name, other in others:
        if other.shape != tensor.shape:
            raise UsageError(f"{first} and {name} differ in shape",
                             given=f"{list(tensor.shape)} and {list(other.shape)}", allowed="the same shape")
