"""DQN by hand: settings that make it small, quick or a Rainbow, and batches for its learner."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from velodrome.envs.env_batch import EnvBatch
from velodrome.rl.algorithms import read_params
from velodrome.rl.dqn import DQN, learning
from velodrome.rl.off_policy import OffPolicy
from velodrome.rl.replay import Transitions
from velodrome.types import ParamValue

SMALL: dict[str, ParamValue] = {"num_envs": 4, "width": 16, "depth": 1, "batch_size": 16, "learning_starts": 32}
QUICK: dict[str, ParamValue] = {
    "num_envs": 8, "width": 32, "depth": 1, "batch_size": 32, "learning_starts": 200, "lr": 5e-3, "target_every": 50,
    "updates_per_step": 0.5, "exploration_fraction": 0.5, "max_grad_norm": 0.0,
}
RAINBOW: dict[str, ParamValue] = {
    "double": True, "dueling": True, "noisy": True, "prioritized": True, "n_step": 3, "distributional": "categorical",
    "num_atoms": 21, "v_min": -6.0, "v_max": 10.0, "normalize_obs": True,
}
QUANTILE: dict[str, ParamValue] = {**RAINBOW, "noisy": False, "distributional": "quantile", "n_step": 2}


def run_for(envs: EnvBatch, given: dict[str, ParamValue], *, steps: int = 100_000, seed: int = 1) -> OffPolicy:
    _, config = read_params({"algo": "dqn", "env": "", "steps": steps, **given})
    return learning(envs, config, steps=steps, seed=seed)


def learner_for(envs: EnvBatch, given: dict[str, ParamValue]) -> DQN:
    _, config = read_params({"algo": "dqn", "env": "", "steps": 1, **given})
    return DQN(envs, config, seed=1)


def transitions(size: int = 16, *, num_obs: int = 4, **more: Any) -> Transitions:
    draw = torch.Generator().manual_seed(0)
    batch = Transitions(
        torch.randn(size, num_obs, generator=draw), torch.randint(2, (size,), generator=draw),
        torch.randn(size, generator=draw), torch.full((size,), 0.9), torch.randn(size, num_obs, generator=draw),
    )
    return batch._replace(**more)


def fixed(out: Tensor) -> Any:
    """A network that says the same of every observation."""
    return lambda x: out.expand(len(x), *out.shape)
