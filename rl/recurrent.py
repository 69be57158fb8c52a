"""Memory for policies: an LSTM over rollouts of several environments whose episodes begin anywhere in them."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from velodrome.rl.lstm_by_hand import LSTMByHand
from velodrome.rl.networks import orthogonal, uninitialised


class LSTMState(NamedTuple):
    """What an LSTM remembers, each ``[N, H]``."""

    h: Tensor
    c: Tensor

    def rows(self, index: Tensor) -> LSTMState:
        """Of some of the environments."""
        return LSTMState(self.h.index_select(0, index), self.c.index_select(0, index))

    def forget(self, start: Tensor) -> LSTMState:
        """With the rows zeroed at which an episode starts, ``[N]`` bool; NaN goes too."""
        h, c = (part.masked_fill(start.unsqueeze(-1), 0.0) for part in self)
        return LSTMState(h, c)


class Memory(NamedTuple):
    """What a sequence of steps begins with, and where in it episodes do."""

    state: LSTMState
    """After the step before the sequence, ``[N, H]`` each."""
    start_t: Tensor
    """``[T, N]``, bool: nothing from before step t may be remembered."""

    def rows(self, index: Tensor) -> Memory:
        """Of some of the environments."""
        return Memory(self.state.rows(index), self.start_t.index_select(1, index))


class LSTMCore(nn.Module):
    """One LSTM layer (Hochreiter and Schmidhuber 1997) that forgets everything where an episode starts.

    On a CPU the steps are taken by hand (``lstm_by_hand``). Elsewhere the rollout is cut where episodes start, and each
    piece goes through torch's LSTM at once; reading where the starts are waits for the device. Both compute the same,
    up to rounding.

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

    def step(self, x: Tensor, state: LSTMState) -> LSTMState:
        """The state after one step, x ``[N, num_in]``; its ``h`` is the features. A quarter of ``forward``'s time."""
        return LSTMState(*torch.lstm_cell(x, state, *self.lstm.all_weights[0]))

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
        if x_t.device.type == "cpu":
            features_t, c = LSTMByHand.apply(x_t, *state, start_t, *self.lstm.all_weights[0])  # type: ignore[no-untyped-call]  # torch
            return features_t, LSTMState(features_t[-1], c)
        return self.in_pieces(x_t, state, start_t)

    def in_pieces(self, x_t: Tensor, state: LSTMState, start_t: Tensor) -> tuple[Tensor, LSTMState]:
        """``forward`` through torch's LSTM, on any device."""
        cuts = (start_t[1:].any(-1).nonzero().flatten() + 1).tolist()
        pieces = []
        for begin, end in itertools.pairwise((0, *cuts, len(x_t))):
            h, c = state.forget(start_t[begin])
            piece, (h, c) = self.lstm(x_t[begin:end], (h.unsqueeze(0), c.unsqueeze(0)))
            state = LSTMState(h.squeeze(0), c.squeeze(0))
            pieces.append(piece)
        return torch.cat(pieces), state
