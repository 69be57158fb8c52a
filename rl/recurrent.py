"""Memory for policies: an LSTM over rollouts of several environments whose episodes begin anywhere in them."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from velodrome.rl.networks import orthogonal, uninitialised

_STEPS_PER_PIECE = 4
"""Steps that a piece must have on average for torch's LSTM to beat a loop (measured with N and H of 8 to 64)."""


class LSTMState(NamedTuple):
    """What an LSTM remembers, each ``[N, H]``."""

    h: Tensor
    c: Tensor


class LSTMCore(nn.Module):
    """One LSTM layer (Hochreiter and Schmidhuber 1997) that forgets everything where an episode starts.

    Where few steps start an episode, the rollout is cut there, and each piece goes through torch's LSTM at once,
    which takes a fraction of a loop's time. Where many do, a loop over steps is faster than many small pieces. Both
    compute the same, up to rounding. Reading where the starts are waits for the device.

    Args:
        num_in: Size of a feature vector.
        num_units: H.
        generator: Draws the weights: orthogonal, with zero biases.
    """

    def __init__(self, num_in: int, num_units: int, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.num_features = num_units
        self.lstm = orthogonal(uninitialised(nn.LSTM, num_in, num_units), 1.0, generator)

    def initial_state(self, num_envs: int) -> LSTMState:
        """The state at the start of an episode: zeros ``[num_envs, H]``, on the parameters' device."""
        zeros = next(self.parameters()).new_zeros(num_envs, self.num_features)
        return LSTMState(zeros, zeros)

    def forward(self, x_t: Tensor, state: LSTMState, start_t: Tensor) -> tuple[Tensor, LSTMState]:
        """Features with memory.

        Args:
            x_t: ``[T, N, num_in]``.
            state: After the step before these, ``[N, H]`` each.
            start_t: ``[T, N]``, bool: the observation of step t is the first of its episode, so that nothing from
                before may be remembered. With same-step autoreset: the step before was done.

        Returns:
            ``[T, N, H]``, and the state after the last step.
        """
        cuts = (start_t[1:].any(-1).nonzero().flatten() + 1).tolist()
        if len(cuts) * _STEPS_PER_PIECE > len(x_t):
            return self._step_by_step(x_t, state, start_t)
        pieces = []
        for begin, end in itertools.pairwise((0, *cuts, len(x_t))):
            h, c = _forget(state, start_t[begin])
            piece, (h, c) = self.lstm(x_t[begin:end], (h.unsqueeze(0), c.unsqueeze(0)))
            state = LSTMState(h.squeeze(0), c.squeeze(0))
            pieces.append(piece)
        return torch.cat(pieces), state

    def _step_by_step(self, x_t: Tensor, state: LSTMState, start_t: Tensor) -> tuple[Tensor, LSTMState]:
        """``forward`` as a loop, with the products of all inputs taken out of it."""
        weight_x, weight_h, bias_x, bias_h = self.lstm.all_weights[0]
        inputs = functional.linear(x_t, weight_x, bias_x + bias_h).unbind(0)
        outputs = []
        for x, start in zip(inputs, start_t.unbind(0), strict=True):
            h, c = _forget(state, start)
            gates = torch.addmm(x, h, weight_h.t())
            in_gate, forget_gate, candidate, out_gate = gates.chunk(4, -1)
            c = forget_gate.sigmoid() * c + in_gate.sigmoid() * candidate.tanh()
            h = out_gate.sigmoid() * c.tanh()
            state = LSTMState(h, c)
            outputs.append(h)
        return torch.stack(outputs), state


def _forget(state: LSTMState, start: Tensor) -> LSTMState:
    """The state, with the rows zeroed at which an episode starts, ``[N]``; NaN goes too."""
    h, c = (part.masked_fill(start.unsqueeze(-1), 0.0) for part in state)
    return LSTMState(h, c)
