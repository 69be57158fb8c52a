"""Optimisers over the rows of ``[K, P]``, each row with its own settings: one pass over memory for all members.

The arithmetic is that of ``torch.optim``. On a CPU a compiled kernel goes once through each row; elsewhere the same is
done by tensor operations on all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from velodrome.trials.optimizers import SGD, Adam, AdamW, OptimizerSpec, RMSprop, rate_at

Table = np.ndarray[Any, Any]


class RowOptimizer:
    """One class of optimiser for K rows.

    Args:
        specs: Each row's; all of one class.
        num_steps: Of each row's whole training, for its schedule.
        rows: The parameters, ``[K, P]``.
        gradient: Where their gradients will be, ``[K, P]``.
    """

    def __init__(
        self, specs: Sequence[OptimizerSpec], num_steps: Sequence[int], rows: Tensor, gradient: Tensor
    ) -> None:
        self._specs, self._num_steps = list(specs), list(num_steps)
        self._arithmetic = arithmetic = ARITHMETIC[type(specs[0])]
        self.slots = {name: torch.zeros_like(rows) for name in arithmetic.slots}
        self._settings = np.array([_settings_of(spec) for spec in specs])
        self._scheduled = [row for row, spec in enumerate(specs) if spec.schedule is not None]
        self._scale = torch.ones(len(rows), dtype=rows.dtype, device=rows.device)
        limits = np.array([spec.clip_norm or np.inf for spec in specs])
        self._limits = torch.from_numpy(limits).to(rows) if np.isfinite(limits).any() else None
        self._gradient, self._tensors = gradient, (rows, gradient, *self.slots.values(), self._scale)
        self._is_compiled = rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64)
        self._arrays = [tensor.numpy() for tensor in self._tensors] if self._is_compiled else []
        kind = np.float32 if rows.dtype is torch.float32 else np.float64
        self._table = np.empty((arithmetic.num_columns, len(rows)), kind)

    def update(self, steps: np.ndarray[Any, Any]) -> None:
        """A step of every row, for the gradients that are there and the steps that were done before, ``[K]``."""
        for row in self._scheduled:
            self._settings[row, 0] = rate_at(self._specs[row], int(steps[row]), self._num_steps[row])
        if self._limits is not None:
            norms = torch.linalg.vector_norm(self._gradient, dim=1)
            torch.div(self._limits, norms.add_(1e-6), out=self._scale).clamp_(max=1.0)
        self._arithmetic.tabulate(self._settings, steps, self._table)
        if self._is_compiled:
            self._arithmetic.kernel(*self._arrays, self._table)
        else:
            table = torch.from_numpy(self._table).to(self._gradient)
            self._arithmetic.by_tensors(*self._tensors, table)


def _settings_of(spec: OptimizerSpec) -> tuple[float, ...]:
    """What the kernels take for a row: the learning rate first, then the weight decay."""
    match spec:
        case SGD():
            return spec.lr, spec.weight_decay, spec.momentum, float(spec.nesterov)
        case RMSprop():
            return spec.lr, spec.weight_decay, spec.momentum, spec.alpha, spec.eps
        case Adam() | AdamW():
            return spec.lr, spec.weight_decay, spec.beta1, spec.beta2, spec.eps, float(type(spec) is AdamW)


def _adam(rows: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, scale: Tensor, table: Tensor) -> None:
    shrink, decay, weight1, beta2, weight2, size, by_second, eps = table.unsqueeze(-1).unbind(0)
    rows.mul_(shrink)
    gradient = gradient * scale[:, None] + decay * rows
    exp_avg.add_(weight1 * (gradient - exp_avg))
    exp_avg_sq.mul_(beta2).add_(weight2 * (gradient * gradient))
    rows.sub_(size * exp_avg / (exp_avg_sq.sqrt() * by_second + eps))


def _sgd(rows: Tensor, gradient: Tensor, buffer: Tensor, scale: Tensor, table: Tensor) -> None:
    lr, decay, momentum, nesterov = table.unsqueeze(-1).unbind(0)
    gradient = gradient * scale[:, None] + decay * rows
    buffer.mul_(momentum).add_(gradient)
    rows.sub_(lr * torch.where(nesterov > 0, gradient + momentum * buffer, buffer))


def _rmsprop(rows: Tensor, gradient: Tensor, square_avg: Tensor, buffer: Tensor, scale: Tensor, table: Tensor) -> None:
    lr, decay, momentum, alpha, eps, weight = table.unsqueeze(-1).unbind(0)
    gradient = gradient * scale[:, None] + decay * rows
    square_avg.mul_(alpha).add_(weight * (gradient * gradient))
    buffer.mul_(momentum).add_(gradient / (square_avg.sqrt() + eps))
    rows.sub_(lr * buffer)


def _tabulate_adam_python(settings, steps, table):  # type: ignore[no-untyped-def]  # compiled below
    for k in range(settings.shape[0]):
        lr, decay, beta1, beta2, eps, is_decoupled = settings[k]
        step = float(steps[k] + 1)
        table[0, k] = 1.0 - lr * decay if is_decoupled > 0 else 1.0
        table[1, k] = 0.0 if is_decoupled > 0 else decay
        table[2, k] = 1.0 - beta1
        table[3, k] = beta2
        table[4, k] = 1.0 - beta2
        table[5, k] = lr / (1.0 - beta1**step)
        table[6, k] = 1.0 / np.sqrt(1.0 - beta2**step)
        table[7, k] = eps


def _tabulate_rmsprop_python(settings, steps, table):  # type: ignore[no-untyped-def]  # compiled below
    for k in range(settings.shape[0]):
        for column in range(5):
            table[column, k] = settings[k, column]
        table[5, k] = 1.0 - settings[k, 3]


def _tabulate_sgd_python(settings, steps, table):  # type: ignore[no-untyped-def]  # compiled below
    for k in range(settings.shape[0]):
        for column in range(4):
            table[column, k] = settings[k, column]


def _adam_python(w, g, m, v, scale, table):  # type: ignore[no-untyped-def]  # compiled below
    for k in range(w.shape[0]):
        w_k, g_k, m_k, v_k, s = w[k], g[k], m[k], v[k], scale[k]
        shrink, decay, weight1, beta2, weight2, size, by_second, eps = table[:, k]
        for i in range(w.shape[1]):
            p = w_k[i] * shrink
            d = g_k[i] * s + decay * p
            m_i = m_k[i] + weight1 * (d - m_k[i])
            v_i = beta2 * v_k[i] + weight2 * (d * d)
            m_k[i] = m_i
            v_k[i] = v_i
            w_k[i] = p - size * m_i / (np.sqrt(v_i) * by_second + eps)


def _sgd_python(w, g, b, scale, table):  # type: ignore[no-untyped-def]  # compiled below
    for k in range(w.shape[0]):
        w_k, g_k, b_k, s = w[k], g[k], b[k], scale[k]
        lr, decay, momentum, nesterov = table[:, k]
        for i in range(w.shape[1]):
            d = g_k[i] * s + decay * w_k[i]
            b_i = momentum * b_k[i] + d
            b_k[i] = b_i
            w_k[i] -= lr * (d + momentum * b_i if nesterov > 0 else b_i)


def _rmsprop_python(w, g, v, b, scale, table):  # type: ignore[no-untyped-def]  # compiled below
    for k in range(w.shape[0]):
        w_k, g_k, v_k, b_k, s = w[k], g[k], v[k], b[k], scale[k]
        lr, decay, momentum, alpha, eps, weight = table[:, k]
        for i in range(w.shape[1]):
            d = g_k[i] * s + decay * w_k[i]
            v_i = alpha * v_k[i] + weight * (d * d)
            b_i = momentum * b_k[i] + d / (np.sqrt(v_i) + eps)
            v_k[i] = v_i
            b_k[i] = b_i
            w_k[i] -= lr * b_i


_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_adam_kernel: Callable[..., None] = _compiled(_adam_python)
_sgd_kernel: Callable[..., None] = _compiled(_sgd_python)
_rmsprop_kernel: Callable[..., None] = _compiled(_rmsprop_python)
_tabulate_adam: Callable[..., None] = _compiled(_tabulate_adam_python)
_tabulate_rmsprop: Callable[..., None] = _compiled(_tabulate_rmsprop_python)
_tabulate_sgd: Callable[..., None] = _compiled(_tabulate_sgd_python)


@dataclass(frozen=True, slots=True)
class _Arithmetic:
    """A class of optimiser.

    Attributes:
        slots: What it remembers.
        num_columns: Numbers of a row for a step.
        tabulate: Writes them, from the settings and the steps before.
        kernel: The step, compiled.
        by_tensors: The step by operations on tensors.
    """

    slots: tuple[str, ...]
    num_columns: int
    tabulate: Callable[..., None]
    kernel: Callable[..., None]
    by_tensors: Callable[..., None]


_ADAM = _Arithmetic(("exp_avg", "exp_avg_sq"), 8, _tabulate_adam, _adam_kernel, _adam)
ARITHMETIC: dict[type[Any], _Arithmetic] = {
    SGD: _Arithmetic(("momentum_buffer",), 4, _tabulate_sgd, _sgd_kernel, _sgd),
    Adam: _ADAM, AdamW: _ADAM,
    RMSprop: _Arithmetic(("square_avg", "momentum_buffer"), 6, _tabulate_rmsprop, _rmsprop_kernel, _rmsprop),
}
