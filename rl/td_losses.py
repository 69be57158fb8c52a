"""Losses of deep Q-learning: one-step or n-step, double, and the two distributional kinds, C51 and quantile regression.

Shapes: ``[B]`` transitions, A actions, K atoms or quantiles. ``r`` is the reward of a transition, for n-step targets
the discounted sum of n rewards; ``discount`` is what multiplies the value after it: ``gamma^n``, and 0 where the
episode terminated (a truncated one keeps its discount). ``ReplayBuffer.sample`` gives both. Targets carry no gradient.
Losses are per transition, ``[B]``, so that prioritised replay can weight them and read its priorities off them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from velodrome.rl.losses import huber


def q_error(q_t: Tensor, a_t: Tensor, target: Tensor) -> Tensor:
    """``target - q(s, a)``: its absolute value is the priority, ``huber`` of it the loss.

    Args:
        q_t: ``[B, A]``.
        a_t: ``[B]``, int64.
        target: ``[B]``.

    Returns:
        ``[B]``.
    """
    return target.detach() - taken(q_t, a_t)


@torch.no_grad()
def project_categorical(r: Tensor, discount: Tensor, probs_tp1: Tensor, atoms: Tensor) -> Tensor:
    """The distribution of ``r + discount Z``, moved onto the atoms (Bellemare et al. 2017, equation 7).

    Each shifted atom, clipped to the range, gives its probability to its two neighbours by nearness.

    Args:
        r: ``[B]``.
        discount: ``[B]``.
        probs_tp1: ``[B, K]``, the distribution of the return at s' under the chosen action.
        atoms: ``[K]``, evenly spaced, ascending, ``K >= 2``.

    Returns:
        ``[B, K]``; rows sum to what those of ``probs_tp1`` do. The same bits each time: on a GPU, where a scattered
        sum would not give these, it uses ``B K^2`` numbers of memory.
    """
    spacing = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    shifted = (r.unsqueeze(-1) + discount.unsqueeze(-1) * atoms).clamp(atoms[0], atoms[-1])
    share = _by_scattering if atoms.device.type == "cpu" else _by_nearness
    return share(probs_tp1, (shifted - atoms[0]) / spacing)


def _by_scattering(probs: Tensor, position: Tensor) -> Tensor:
    """``[B, K]``: what atoms with ``[B, K]`` probabilities give to others if they lie at these places of 0 to K - 1."""
    index = position.long().clamp_(0, probs.shape[-1] - 2)  # a place of NaN is no index, and makes NaN
    to_above = probs * (position - index)
    return torch.zeros_like(probs).scatter_add_(-1, index, probs - to_above).scatter_add_(-1, index + 1, to_above)


def _by_nearness(probs: Tensor, position: Tensor) -> Tensor:
    """The same with a sum over all pairs of atoms."""
    places = torch.arange(probs.shape[-1], device=probs.device, dtype=probs.dtype)
    return torch.einsum("bj,bjk->bk", probs, (1.0 - (position.unsqueeze(-1) - places).abs()).clamp(min=0.0))


def categorical_loss(logits_t: Tensor, a_t: Tensor, target_probs: Tensor) -> Tensor:
    """C51's loss (Bellemare et al. 2017, algorithm 1): the cross entropy of the projected target and the prediction.

    Args:
        logits_t: ``[B, A, K]``.
        a_t: ``[B]``, int64.
        target_probs: ``[B, K]``, from ``project_categorical``.

    Returns:
        ``[B]``; Rainbow's priorities are these.
    """
    return -(target_probs.detach() * taken(logits_t, a_t).log_softmax(-1)).sum(-1)


def categorical_values(logits: Tensor, atoms: Tensor) -> Tensor:
    """The mean returns ``[B, A]`` of distributions with logits ``[B, A, K]`` over ``[K]`` atoms."""
    return logits.softmax(-1) @ atoms


@torch.no_grad()
def quantile_target(r: Tensor, discount: Tensor, quantiles_tp1: Tensor) -> Tensor:
    """``r + discount theta_j``, ``[B, K]``, for quantiles ``[B, K]`` at s' under the chosen action."""
    return r.unsqueeze(-1) + discount.unsqueeze(-1) * quantiles_tp1


def quantile_loss(quantiles_t: Tensor, a_t: Tensor, target: Tensor, *, kappa: float = 1.0) -> Tensor:
    """The quantile Huber loss (Dabney et al. 2018, equations 9 and 10; over kappa, as in IQN).

    The sum over predicted quantiles i, and the mean over target quantiles j, of
    ``|tau_i - 1[u_ij < 0]| huber(u_ij) / kappa`` with ``u_ij = target_j - theta_i`` and ``tau_i = (i + 1/2) / K``.

    Args:
        quantiles_t: ``[B, A, K]``.
        a_t: ``[B]``, int64.
        target: ``[B, J]``, from ``quantile_target``; J need not be K.
        kappa: Where the Huber loss turns linear; above 0.

    Returns:
        ``[B]``.
    """
    theta = taken(quantiles_t, a_t)
    num_quantiles = theta.shape[-1]
    tau = (torch.arange(num_quantiles, device=theta.device, dtype=theta.dtype) + 0.5) / num_quantiles
    u = target.detach().unsqueeze(-2) - theta.unsqueeze(-1)
    weight = (tau.unsqueeze(-1) - (u.detach() < 0).to(theta.dtype)).abs()
    return (weight * huber(u, kappa)).mean(-1).sum(-1) / kappa


def allowed_values(q: Tensor, mask: Tensor | None) -> Tensor:
    """The values ``[B, A]`` with those of forbidden actions at the lowest number there is, to choose the best by.

    Args:
        q: ``[B, A]``.
        mask: ``[B, A]``, bool, True where an action is allowed; None for all.
    """
    return q if mask is None else q.masked_fill(~mask, torch.finfo(q.dtype).min)


def taken(per_action: Tensor, a: Tensor) -> Tensor:
    """Row b's entry of action ``a[b]``: of ``[B, A, ...]`` and ``[B]``, ``[B, ...]``."""
    index = a.view(-1, *[1] * (per_action.ndim - 1)).expand(-1, 1, *per_action.shape[2:])
    return per_action.gather(1, index).squeeze(1)
