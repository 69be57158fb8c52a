"""Epsilon-greedy exploration whose random actions last."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from velodrome.rl.q_policy import check_mask, draw_evenly
from velodrome.rl.td_losses import allowed_values


class LastingEpsilonGreedy:
    """The best action, or now and then a random one that goes on for some steps (Dabney et al. 2021).

    ("Temporally-extended epsilon-greedy exploration".) Where it takes many steps in one direction to get anywhere,
    random actions that change at every step get nowhere. How long one lasts is drawn from a geometric distribution
    (theirs is a zeta); the share of random actions is ``epsilon`` all the same. A random action that lasts does not
    look at the ends of episodes; it ends where the mask forbids it.

    Args:
        num_envs: N.
        mean_steps: How long a random action lasts on average; 1 for epsilon-greedy.
    """

    def __init__(self, num_envs: int, mean_steps: float) -> None:
        self._mean_steps = mean_steps
        self.lasting = torch.full((num_envs,), -1)
        """``[N]``: the random action under way; -1 for none."""

    def choose(self, q: Tensor, mask: Tensor | None, epsilon: float, generator: Generator) -> Tensor:
        """Actions ``[N]``.

        Args:
            q: Values ``[N, A]``, on the CPU.
            mask: ``[N, A]``, bool, True where an action is allowed; None for all.
            epsilon: The share of random actions.
            generator: On the CPU.

        Raises:
            UsageError: If a row of the mask allows nothing.
        """
        check_mask(mask)
        num_envs, num_actions = q.shape
        goes_on, begins = torch.rand(2, num_envs, generator=generator)
        stays = (self.lasting >= 0) & (goes_on < 1.0 - 1.0 / self._mean_steps)
        if mask is not None:
            stays &= mask.gather(1, self.lasting.clamp(min=0).unsqueeze(1)).squeeze(1)
        # With p to begin and 1 / m to end, p / (p + (1 - p) / m) of the steps are random.
        is_new = ~stays & (begins < epsilon / (self._mean_steps * (1.0 - epsilon) + epsilon))
        new = draw_evenly(num_envs, num_actions, mask, generator)
        self.lasting = torch.where(stays, self.lasting, torch.where(is_new, new, -1))
        return torch.where(self.lasting >= 0, self.lasting, allowed_values(q, mask).argmax(-1))
