"""Evaluation: how good a policy is, in environments of its own that training never sees.

Protocol: each of N environments with its own seed plays its share of the episodes, and exactly these count, so that
short episodes are not favoured. Returns are raw: no wrapper and no normalisation changes them. What the policy
normalises observations by is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from velodrome.envs.env_batch import EnvBatch
from velodrome.seeding import derive

MAX_ENVS = 20
"""Most environments side by side."""

_MAX_STEPS = 100_000
"""An episode that is longer is cut, and counts with what it has."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Episodes that were played.

    Attributes:
        returns: ``[E]``, the sum of raw rewards of each.
        lengths: ``[E]``, in steps.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """The mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """The standard deviation of the returns (over E)."""
        return float(self.returns.std())


def evaluate(
    policy: Any, envs: EnvBatch, *, episodes: int = 20, seed: int = 0, deterministic: bool = True,
) -> Evaluation:
    """Plays episodes.

    Args:
        policy: An ``Agent``; nothing of it changes.
        envs: Where it plays; reset first. Their number changes which episodes are played.
        episodes: How many count.
        seed: Of environments and actions.
        deterministic: The most likely action, or one that is drawn.
    """
    num_envs = envs.num_envs
    left = np.full(num_envs, episodes // num_envs)
    left[: episodes % num_envs] += 1
    device = next(policy.parameters()).device
    drawing = torch.Generator(device).manual_seed(derive(seed, "evaluation actions"))
    returns: list[float] = []
    lengths: list[int] = []
    so_far, num_steps = np.zeros(num_envs), np.zeros(num_envs, np.int64)
    was_training = policy.training
    policy.eval()
    player = policy.player(num_envs)
    obs = envs.reset(derive(seed, "evaluation environments") & 0x7FFF_FFFF)
    while left.any():
        step = envs.step(player.act(obs, envs.action_mask, None if deterministic else drawing))
        player.end(step.terminated | step.truncated | ~step.valid)
        obs = step.obs
        so_far += step.reward
        num_steps += step.valid
        cut = (num_steps >= _MAX_STEPS) & ~step.episode_done
        for row in np.flatnonzero((step.episode_done | cut) & (left > 0)):
            returns.append(float(so_far[row] if cut[row] else step.episode_return[row]))
            lengths.append(int(num_steps[row] if cut[row] else step.episode_length[row]))
            left[row] -= 1
        ended = step.episode_done | cut
        so_far[ended], num_steps[ended] = 0.0, 0
    policy.train(was_training)
    return Evaluation(np.array(returns), np.array(lengths))
