"""Recurrent layers step by step, with the parameters of torch's own, which can't be batched.

The equations are those of torch's documentation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn


def unroll(model: nn.Module) -> nn.Module:
    """The model with each recurrent layer in a form that can be batched; parameters keep their names."""
    if isinstance(model, nn.RNNBase):
        return Unrolled(model)
    for name, child in model.named_children():
        setattr(model, name, unroll(child))
    return model


class Unrolled(nn.Module):
    """What an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` computes for a batch.

    Args:
        layer: The layer, without dropout between its levels and without projections.
    """

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.mode = layer.mode
        self.num_layers, self.batch_first = layer.num_layers, layer.batch_first
        self.suffixes = ("", "_reverse") if layer.bidirectional else ("",)
        for name, parameter in layer.named_parameters():
            self.register_parameter(name, parameter)

    def forward(
        self, x: Tensor, hx: Tensor | tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
        """All outputs of the last level, and the last state of each."""
        if x.ndim != 3:
            raise RuntimeError("a recurrent layer on a sequence without a batch")
        steps = list(x.unbind(1 if self.batch_first else 0))
        starts = self._starts(hx)
        ends = []
        for level in range(self.num_layers):
            ways = []
            for way, suffix in enumerate(self.suffixes):
                start = starts[level * len(self.suffixes) + way] if starts is not None else None
                outs, end = self._level(steps[::-1] if way else steps, f"l{level}{suffix}", start)
                ways.append(outs[::-1] if way else outs)
                ends.append(end)
            steps = [torch.cat(parts, -1) for parts in zip(*ways, strict=True)] if len(ways) > 1 else ways[0]
        out = torch.stack(steps, 1 if self.batch_first else 0)
        last = tuple(torch.stack(parts) for parts in zip(*ends, strict=True))
        return out, last if len(last) > 1 else last[0]

    def _starts(self, hx: Tensor | tuple[Tensor, Tensor] | None) -> list[tuple[Tensor, ...]] | None:
        """The first state of each level and way."""
        if hx is None:
            return None
        return list(zip(*(part.unbind(0) for part in (hx if isinstance(hx, tuple) else (hx,))), strict=True))

    def _level(
        self, steps: list[Tensor], name: str, state: tuple[Tensor, ...] | None
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """One level in one direction: its outputs and its last state."""
        weights_x, weights_h = getattr(self, f"weight_ih_{name}"), getattr(self, f"weight_hh_{name}")
        bias_x, bias_h = getattr(self, f"bias_ih_{name}", None), getattr(self, f"bias_hh_{name}", None)
        if state is None:
            zero = steps[0].new_zeros(len(steps[0]), weights_h.shape[1])
            state = (zero, zero) if self.mode == "LSTM" else (zero,)
        from_x = F.linear(torch.stack(steps), weights_x, bias_x).unbind(0)
        outs = []
        for z in from_x:
            state = self._cell(z, F.linear(state[0], weights_h, bias_h), state)
            outs.append(state[0])
        return outs, state

    def _cell(self, z_x: Tensor, z_h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The next state, from what the input and the last output add to the gates."""
        match self.mode:
            case "LSTM":
                i, f, g, o = (z_x + z_h).chunk(4, -1)
                c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
                return o.sigmoid() * c.tanh(), c
            case "GRU":
                r_x, z_x, n_x = z_x.chunk(3, -1)
                r_h, z_h, n_h = z_h.chunk(3, -1)
                z = (z_x + z_h).sigmoid()
                n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
                return ((1.0 - z) * n + z * state[0],)
        total = z_x + z_h
        return (total.relu() if self.mode == "RNN_RELU" else total.tanh(),)
