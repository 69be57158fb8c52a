"""All parameters of a module as one row of numbers: one optimiser step, one norm and one copy serve them all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


class FlatAdam:
    """Adam over a module's parameters as one row (Kingma and Ba 2015), with a limit to the gradient's length.

    Each parameter becomes a view of ``weights`` and keeps its name and shape. ``torch.optim.Adam`` itself would import
    ``torch._dynamo`` when it is made: 2.5 s at the start of every run.

    Args:
        module: Whose parameters.
        lr: The learning rate.
        max_grad_norm: Longest gradient; 0 for no limit.
        betas: Adam's.
        eps: Adam's.
    """

    def __init__(
        self, module: nn.Module, lr: float, max_grad_norm: float = 0.0, *, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.module = module
        self.weights: nn.Parameter = flatten(module)
        self.lr, self.lr_scale = lr, 1.0
        self._max_norm = max_grad_norm
        self.betas, self.eps = betas, eps
        self._first, self._second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self._num_steps = torch.zeros((), device=self.weights.device)
        self.checks = True
        """Whether ``descend`` looks at the gradient's length; a GPU would be waited for. If not, ``norm`` keeps it."""
        self.norm, self._lr_there = torch.zeros_like(self._num_steps), torch.zeros_like(self._num_steps)
        self._lr_sent = 0.0

    def descend(self, loss: Tensor) -> bool:
        """A step down the loss. Where the gradient is not finite nothing changes: False then, if it ``checks``."""
        gradient = self.weights.grad
        assert gradient is not None
        gradient.zero_()
        torch.autograd.backward(loss)
        norm = torch.linalg.vector_norm(gradient)
        if not self.checks:
            self.norm.copy_(norm)
            if self._max_norm:
                gradient.mul_((self._max_norm / (norm + 1e-6)).clamp_(max=1.0))
            self._adam(gradient, self._lr_there, is_infinite=1.0 - torch.isfinite(norm).float())
            return True
        length = float(norm)
        if not math.isfinite(length):
            return False
        if 0.0 < self._max_norm < length:
            gradient.mul_(self._max_norm / (length + 1e-6))
        self._adam(gradient, self.lr * self.lr_scale)
        return True

    def send_learning_rate(self) -> None:
        """Brings the learning rate to where a step that does not check reads it."""
        lr = self.lr * self.lr_scale
        if lr != self._lr_sent:
            self._lr_there.fill_(lr)
            self._lr_sent = lr

    @torch.no_grad()
    def _adam(self, gradient: Tensor, lr: float | Tensor, is_infinite: Tensor | None = None) -> None:
        adam(
            [self.weights], [gradient], [self._first], [self._second], [], [self._num_steps], fused=True,
            found_inf=is_infinite, amsgrad=False, beta1=self.betas[0], beta2=self.betas[1], lr=lr, weight_decay=0.0,
            eps=self.eps, maximize=False,
        )

    def state(self) -> dict[str, Any]:
        """What ``load`` needs, the module's buffers included."""
        return {
            "weights": self.weights.detach().clone(), "first": self._first.clone(), "second": self._second.clone(),
            "num_steps": self._num_steps.clone(), "lr_scale": self.lr_scale,
            "buffers": {name: part.clone() for name, part in self.module.named_buffers()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""
        with torch.no_grad():
            self.weights.copy_(state["weights"])
        self._first.copy_(state["first"])
        self._second.copy_(state["second"])
        self._num_steps.copy_(state["num_steps"])
        self.norm.zero_()  # of a step that is undone; where this one takes none, it would count again
        self.lr_scale = state["lr_scale"]
        for name, part in self.module.named_buffers():
            part.copy_(state["buffers"][name])


def flatten(module: nn.Module) -> nn.Parameter:
    """Moves all parameters into one, of which they become views, and their gradients into its gradient.

    Returns:
        The one parameter, ``[P]``, with ``grad`` set.
    """
    parameters = list(module.parameters())
    whole = nn.Parameter(torch.cat([_in_memory(p.detach()).flatten() for p in parameters]))
    whole.grad = torch.zeros_like(whole)
    start = 0
    for p in parameters:
        stop = start + p.numel()
        p.grad, p.data = _like(whole.grad[start:stop], p), _like(whole.data[start:stop], p)
        start = stop
    return whole


def _in_memory(p: Tensor) -> Tensor:
    """The tensor with its dimensions in the order of its memory: a channels-last kernel's channels come last."""
    return p if p.is_contiguous() else p.permute(0, 2, 3, 1)


def _like(flat: Tensor, p: Tensor) -> Tensor:
    """The flat numbers in the shape and memory order of ``p``."""
    if p.is_contiguous():
        return flat.view(p.shape)
    return flat.view(_in_memory(p).shape).permute(0, 3, 1, 2)
