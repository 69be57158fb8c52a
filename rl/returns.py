"""Returns and advantages of a rollout: GAE, n-step and lambda returns, V-trace, discounted sums.

Everything is time-major, ``[T, N]``: T steps of N environments side by side. Step t goes from observation t to the
next one:

- ``r_t``: the reward of step t;
- ``v_t``: the value of the observation that step t starts from;
- ``v_tp1``: the value of the observation that step t leads to. Where an episode ends, that is its final observation,
  not the first one of the next episode; ``next_values`` puts this array together.
- ``terminated_t``: the episode ended by itself. Nothing comes after it: ``v_tp1`` is not looked at, even if it is NaN.
- ``truncated_t``: the episode was cut short (a time limit). Its value goes on: ``v_tp1`` is bootstrapped from.

Both flags cut the recursion, so no reward crosses from one episode to the one before. Where both are set,
``terminated`` counts. Returns are targets: no gradient flows through any of them. Rewards and values may be float32
or float64, the flags bool; all on one device. Next-step autoreset's invalid steps are not handled: leave them out
beforehand.

All of these are one linear recursion in time (``backward_scan``), which runs in numba on a CPU and as a loop over T
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from velodrome.errors import UsageError


class VTrace(NamedTuple):
    """What V-trace gives, each ``[T, N]``."""

    vs_t: Tensor
    """The targets of the value function."""
    advantage_t: Tensor
    """The advantages for the policy gradient, already weighted by their clipped importance ratio."""


@torch.no_grad()
def next_values(v_t: Tensor, v_last: Tensor, done_t: Tensor, v_final_t: Tensor) -> Tensor:
    """The values ``v_tp1`` of the observations that each step leads to.

    Args:
        v_t: ``[T, N]``, of the observation that each step starts from.
        v_last: ``[N]``, of the observation after the rollout's last step.
        done_t: ``[T, N]``, bool: the episode ended, in either way.
        v_final_t: ``[T, N]``, of the final observations; only looked at where ``done_t``.

    Returns:
        ``[T, N]``.
    """
    _check_alike(v_t=v_t, done_t=done_t, v_final_t=v_final_t)
    _check_rows(v_t, v_last=v_last)
    return torch.where(done_t, v_final_t, torch.cat([v_t[1:], v_last.unsqueeze(0)]))


@torch.no_grad()
def gae(
    r_t: Tensor, v_t: Tensor, v_tp1: Tensor, terminated_t: Tensor, truncated_t: Tensor, *, gamma: float, lambda_: float,
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, equation 16).

    ``A_t = delta_t + gamma lambda A_{t+1}`` with ``delta_t = r_t + gamma v_{t+1} - v_t``, where ``v_{t+1}`` is 0
    after a termination, and ``A_{t+1}`` is 0 after any end and after the last step. The value target that goes with
    it is ``A_t + v_t``.

    Args:
        r_t: ``[T, N]``, rewards.
        v_t: ``[T, N]``, values before each step.
        v_tp1: ``[T, N]``, values after each step (see ``next_values``).
        terminated_t: ``[T, N]``, bool.
        truncated_t: ``[T, N]``, bool.
        gamma: The discount per step.
        lambda_: 0 for the one-step error, 1 for the Monte Carlo return minus the value.

    Returns:
        ``[T, N]``, not normalised.
    """
    _check_alike(r_t=r_t, v_t=v_t, v_tp1=v_tp1, terminated_t=terminated_t, truncated_t=truncated_t)
    delta_t = r_t + gamma * v_tp1.masked_fill(terminated_t, 0.0) - v_t
    return backward_scan(delta_t, (gamma * lambda_) * _goes_on(terminated_t, truncated_t, delta_t))


@torch.no_grad()
def lambda_returns(
    r_t: Tensor, v_tp1: Tensor, terminated_t: Tensor, truncated_t: Tensor, *, gamma: float, lambda_: float,
) -> Tensor:
    """TD(lambda) returns (Sutton and Barto 2018, equation 12.3, as a recursion).

    ``G_t = r_t + gamma ((1 - lambda) v_{t+1} + lambda G_{t+1})``; after a truncation and after the last step,
    ``G_{t+1}`` is ``v_{t+1}``; after a termination both are 0. Equal to ``gae(...) + v_t``.

    Returns:
        ``[T, N]``. Arguments as for ``gae``.
    """
    _check_alike(r_t=r_t, v_tp1=v_tp1, terminated_t=terminated_t, truncated_t=truncated_t)
    decay_t = lambda_ * _goes_on(terminated_t, truncated_t, r_t)
    decay_t[-1] = 0.0
    return backward_scan(r_t + gamma * v_tp1.masked_fill(terminated_t, 0.0) * (1.0 - decay_t), gamma * decay_t)


@torch.no_grad()
def n_step_returns(
    r_t: Tensor, v_tp1: Tensor, terminated_t: Tensor, truncated_t: Tensor, *, gamma: float, n: int,
) -> Tensor:
    """Returns of n steps, then the value (Sutton and Barto 2018, equation 7.1).

    ``G_t = r_t + gamma r_{t+1} + ... + gamma^{n-1} r_{t+n-1} + gamma^n v_{t+n}``. An episode's end or the rollout's
    makes it shorter: the value there is bootstrapped from, unless the episode terminated.

    Returns:
        ``[T, N]``. Arguments as for ``gae``; ``n >= 1``. Costs n passes over the rollout.

    Raises:
        UsageError: If ``n`` is less than 1.
    """
    _check_alike(r_t=r_t, v_tp1=v_tp1, terminated_t=terminated_t, truncated_t=truncated_t)
    if n < 1:
        raise UsageError("A return needs at least one step", given=f"n={n}", allowed="n >= 1")
    v_tp1 = v_tp1.masked_fill(terminated_t, 0.0)
    ends_t = terminated_t | truncated_t
    ends_t[-1] = True
    g_t = r_t + gamma * v_tp1
    for _ in range(min(n, len(r_t)) - 1):
        g_tp1 = torch.cat([g_t[1:], v_tp1[-1:]])
        g_t = r_t + gamma * torch.where(ends_t, v_tp1, g_tp1)
    return g_t


@torch.no_grad()
def vtrace(
    log_ratio_t: Tensor, r_t: Tensor, v_t: Tensor, v_tp1: Tensor, terminated_t: Tensor, truncated_t: Tensor, *,
    gamma: float, lambda_: float = 1.0, clip_rho: float = 1.0, clip_c: float = 1.0, clip_pg_rho: float = 1.0,
) -> VTrace:
    """V-trace targets and advantages (Espeholt et al. 2018, equation 1 by the recursion of remark 1, and section 4.2).

    ``vs_t = v_t + delta_t + gamma c_t (vs_{t+1} - v_{t+1})`` with ``delta_t = rho_t (r_t + gamma v_{t+1} - v_t)``; the
    advantage is ``rho_t (r_t + gamma vs_{t+1} - v_t)``: it uses the target ``vs_{t+1}``, not the value. After a
    truncation and after the last step, ``vs_{t+1}`` is ``v_{t+1}``. The last step is kept, so T steps in are T steps
    out.

    Args:
        log_ratio_t: ``[T, N]``, log of (probability of the action by the learner / by the actor).
        r_t: ``[T, N]``, rewards.
        v_t: ``[T, N]``, values before each step, by the learner.
        v_tp1: ``[T, N]``, values after each step (see ``next_values``).
        terminated_t: ``[T, N]``, bool.
        truncated_t: ``[T, N]``, bool.
        gamma: The discount per step.
        lambda_: Multiplies ``c`` (remark 2).
        clip_rho: The bound on the ratio in ``delta``: it decides which policy's value is the fixed point. May be
            infinite.
        clip_c: The bound on the ratio in the trace: it decides how fast. May be infinite.
        clip_pg_rho: The bound on the ratio of the advantage. May be infinite.
    """
    _check_alike(log_ratio_t=log_ratio_t, r_t=r_t, v_t=v_t, v_tp1=v_tp1, terminated_t=terminated_t,
                 truncated_t=truncated_t)
    ratio_t = log_ratio_t.exp()
    v_tp1 = v_tp1.masked_fill(terminated_t, 0.0)
    goes_on_t = _goes_on(terminated_t, truncated_t, r_t)
    delta_t = ratio_t.clamp(max=clip_rho) * (r_t + gamma * v_tp1 - v_t)
    c_t = lambda_ * ratio_t.clamp(max=clip_c)
    correction_t = backward_scan(delta_t, gamma * c_t * goes_on_t)
    correction_tp1 = torch.cat([correction_t[1:], torch.zeros_like(correction_t[:1])])
    vs_tp1 = v_tp1 + goes_on_t * correction_tp1
    return VTrace(v_t + correction_t, ratio_t.clamp(max=clip_pg_rho) * (r_t + gamma * vs_tp1 - v_t))


@torch.no_grad()
def discounted_sums(r_t: Tensor, done_t: Tensor, *, gamma: float, v_last: Tensor | None = None) -> Tensor:
    """Monte Carlo returns ``G_t = r_t + gamma G_{t+1}`` (Sutton and Barto 2018, equation 3.9), cut where ``done_t``.

    Args:
        r_t: ``[T, N]``, rewards.
        done_t: ``[T, N]``, bool: the episode ended, in either way.
        gamma: The discount per step.
        v_last: ``[N]``, what comes after the last step; 0 if not given.

    Returns:
        ``[T, N]``. A truncated episode's sum stops at its end: for a bootstrap there, use ``lambda_returns``.
    """
    _check_alike(r_t=r_t, done_t=done_t)
    return backward_scan(r_t, gamma * (~done_t).to(r_t.dtype), v_last)


@torch.no_grad()
def backward_scan(x_t: Tensor, decay_t: Tensor, y_last: Tensor | None = None) -> Tensor:
    """The recursion ``y_t = x_t + decay_t y_{t+1}``, backwards from ``y_T = y_last``.

    Args:
        x_t: ``[T, N]``, float.
        decay_t: ``[T, N]``, of the same type.
        y_last: ``[N]``; 0 if not given.

    Returns:
        ``[T, N]``. On a CPU in numba, elsewhere as a loop over T; both do the same operations in the same order.
    """
    _check_alike(x_t=x_t, decay_t=decay_t)
    if y_last is None:
        y_last = x_t.new_zeros(x_t.shape[1:])
    _check_rows(x_t, y_last=y_last)
    if x_t.device.type == "cpu" and x_t.dim() == 2 and x_t.dtype in (torch.float32, torch.float64):
        y_t = torch.empty_like(x_t, memory_format=torch.contiguous_format)
        arrays = (part.detach().to(x_t.dtype).contiguous().numpy() for part in (x_t, decay_t, y_last))
        _scan_numba(*arrays, y_t.numpy())
        return y_t
    return scan_in_torch(x_t, decay_t, y_last)


def scan_in_torch(x_t: Tensor, decay_t: Tensor, y_last: Tensor) -> Tensor:
    """``backward_scan`` as a loop over T, on any device, of any shape ``[T, ...]``."""
    y_tp1, steps = y_last, []
    for x, decay in zip(reversed(x_t.unbind(0)), reversed(decay_t.unbind(0)), strict=True):
        y_tp1 = x + decay * y_tp1
        steps.append(y_tp1)
    return torch.stack(steps[::-1]) if steps else torch.empty_like(x_t)


def _scan(x: NDArray[np.floating], decay: NDArray[np.floating], last: NDArray[np.floating],
          y: NDArray[np.floating]) -> None:
    """Fills ``y``; the inner loop runs over environments, which lie side by side in memory."""
    steps, envs = x.shape
    for t in range(steps - 1, -1, -1):
        for n in range(envs):
            y_tp1 = last[n] if t == steps - 1 else y[t + 1, n]
            y[t, n] = x[t, n] + decay[t, n] * y_tp1


_scan_numba: Callable[..., None] = numba.njit(cache=True, nogil=True)(_scan)


def _goes_on(terminated_t: Tensor, truncated_t: Tensor, like: Tensor) -> Tensor:
    """1 where the episode goes on after step t, else 0, in the type of ``like``."""
    return torch.logical_not(terminated_t | truncated_t).to(like.dtype)


def _check_alike(**tensors: Tensor) -> None:
    """Raises UsageError unless all have one shape: broadcasting would give wrong numbers silently."""
    (first, tensor), *others = tensors.items()
    if tensor.dim() < 1 or len(tensor) == 0:
        raise UsageError("A rollout needs at least one step", given=f"{first}: {list(tensor.shape)}", allowed="[T, N]")
    for name, other in others:
        if other.shape != tensor.shape:
            raise UsageError(
                f"{first} and {name} differ in shape", given=f"{list(tensor.shape)} and {list(other.shape)}",
                allowed="[T, N] for all of them: steps, then environments",
            )


def _check_rows(per_step: Tensor, **tensors: Tensor) -> None:
    """Raises UsageError unless the tensors have the shape of one step."""
    for name, tensor in tensors.items():
        if tensor.shape != per_step.shape[1:]:
            raise UsageError(f"{name} has a wrong shape", given=str(list(tensor.shape)),
                             allowed=f"{list(per_step.shape[1:])}, one number per environment")
