"""Memory for policies: an LSTM over rollouts of several environments whose episodes begin anywhere in them."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from velodrome.rl.networks import orthogonal, uninitialised


class LSTMState(NamedTuple):
    """What an LSTM remembers, each ``[N, H]``."""

    h: Tensor
    c: Tensor


class LSTMCore(nn.Module):
    """One LSTM layer (Hochreiter and Schmidhuber 1997) that forgets everything where an episode starts.

    The rollout is cut at each step where any environment starts an episode, and each piece goes through torch's LSTM
    at once: a rollout without starts costs a seventh of a loop over its steps, one with starts at every step as much as
    the loop. Reading where the starts are waits for the device.

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
        inner_starts = (start_t[1:].any(-1).nonzero().flatten() + 1).tolist()
        pieces = []
        for begin, end in itertools.pairwise((0, *inner_starts, len(x_t))):
            forget = start_t[begin].unsqueeze(-1)
            h, c = (part.masked_fill(forget, 0.0).unsqueeze(0) for part in state)
            piece, (h, c) = self.lstm(x_t[begin:end], (h, c))
            state = LSTMState(h.squeeze(0), c.squeeze(0))
            pieces.append(piece)
        return torch.cat(pieces), state
