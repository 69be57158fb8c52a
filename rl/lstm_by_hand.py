"""An LSTM over sequences in which episodes begin anywhere, forward and backward by hand, for a CPU.

torch's LSTM knows nothing of episodes: the sequence has to be cut at every one, in any row. And of what it takes for
some tens of rows, most is not arithmetic. Here a step is eight operations forward and five backward in memory that is
reserved once for the sequence, and all that does not need the step before is done for all steps at once. With
``z = W x + R h + b``, as in torch (Hochreiter and Schmidhuber 1997; Gers et al. 2000)::

    i, f, g, o = sigmoid(z_i), sigmoid(z_f), tanh(z_g), sigmoid(z_o)
    c' = f c + i g
    h' = o tanh(c')
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Gradient = Tensor | None


class LSTMByHand(torch.autograd.Function):
    """The whole sequence as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, x_t: Tensor, h: Tensor, c: Tensor, start_t: Tensor, weight_x: Tensor, weight_h: Tensor,
        bias_x: Tensor, bias_h: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Features ``[T, N, H]`` and the last c, ``[N, H]``; arguments as for ``LSTMCore.forward``."""
        steps, size = len(x_t), h.shape[-1]
        starts = _starts(start_t)
        z_t = torch.addmm(bias_x + bias_h, x_t.flatten(0, 1), weight_x.t()).view(*x_t.shape[:2], -1)
        h_t, c_t, tanh_t = (x_t.new_empty(*x_t.shape[:2], size) for _ in range(3))
        i_t, f_t, g_t, o_t = (part.unbind(0) for part in z_t.chunk(4, -1))
        both_t, recurrent = z_t[..., : 2 * size].unbind(0), weight_h.t()
        zs, hs, cs, tanhs = (part.unbind(0) for part in (z_t, h_t, c_t, tanh_t))
        first_h, first_c = h, c
        for t in range(steps):
            if (start := starts[t]) is not None:
                h, c = h.masked_fill(start, 0.0), c.masked_fill(start, 0.0)
            zs[t].addmm_(h, recurrent)
            both_t[t].sigmoid_()
            g_t[t].tanh_()
            o_t[t].sigmoid_()
            c = torch.mul(f_t[t], c, out=cs[t]).addcmul_(i_t[t], g_t[t])
            h = torch.mul(o_t[t], torch.tanh(c, out=tanhs[t]), out=hs[t])
        ctx.save_for_backward(x_t, first_h, first_c, start_t, weight_x, weight_h, z_t, h_t, c_t, tanh_t)
        ctx.set_materialize_grads(False)
        return h_t, c_t[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_h_t: Gradient, d_c: Gradient) -> tuple[Gradient, ...]:
        """The gradients by all arguments, from those by the features and by the last c."""
        x_t, first_h, first_c, start_t, weight_x, weight_h, z_t, h_t, c_t, tanh_t = ctx.saved_tensors
        steps, size = len(x_t), first_h.shape[-1]
        starts = _starts(start_t)
        forget = start_t.unsqueeze(-1)
        before_h, before_c = (
            torch.cat([first.unsqueeze(0), after[:-1]]).masked_fill(forget, 0.0)
            for first, after in ((first_h, h_t), (first_c, c_t))
        )
        # What a change of each gate's z does to c, of o's to h, and of c to h.
        i_t, f_t, g_t, o_t = z_t.chunk(4, -1)
        d_z_t = torch.cat([
            g_t * i_t * (1.0 - i_t), before_c * f_t * (1.0 - f_t), i_t * (1.0 - g_t * g_t), tanh_t * o_t * (1.0 - o_t),
        ], -1)
        c_to_h = o_t * (1.0 - tanh_t * tanh_t)
        # Back through the steps: the factors become the gradients by z.
        d_h_t = torch.zeros_like(h_t) if d_h_t is None else d_h_t
        d_c = torch.zeros_like(first_c) if d_c is None else d_c.clone()
        after: Tensor | None = None
        to_c, to_h = d_z_t[..., : 3 * size].view(*d_z_t.shape[:2], 3, size).unbind(0), d_z_t[..., 3 * size :].unbind(0)
        keeps, d_hs, factors, d_zs = f_t.unbind(0), d_h_t.unbind(0), c_to_h.unbind(0), d_z_t.unbind(0)
        for t in range(steps - 1, -1, -1):
            d_h = d_hs[t] if after is None else torch.addmm(d_hs[t], after, weight_h)
            d_c.addcmul_(d_h, factors[t])
            to_c[t].mul_(d_c.unsqueeze(1))
            to_h[t].mul_(d_h)
            d_c.mul_(keeps[t])
            after = d_zs[t]
            if (start := starts[t]) is not None:
                after = after.masked_fill(start, 0.0)
                d_c.masked_fill_(start, 0.0)
        flat = d_z_t.flatten(0, 1)
        d_x_t = torch.mm(flat, weight_x).view(x_t.shape) if ctx.needs_input_grad[0] else None
        assert after is not None
        d_first = torch.mm(after, weight_h) if ctx.needs_input_grad[1] else None
        d_bias = flat.sum(0)
        return (d_x_t, d_first, d_c, None, torch.mm(flat.t(), x_t.flatten(0, 1)),
                torch.mm(flat.t(), before_h.flatten(0, 1)), d_bias, d_bias)


def _starts(start_t: Tensor) -> list[Tensor | None]:
    """``[N, 1]`` for the steps at which some episode starts, None for the others."""
    return [rows if some else None for rows, some in zip(start_t.unsqueeze(-1), start_t.any(1).tolist(), strict=True)]
