"""Learning while the environment steps: SAC's steps per second by what a step of the environment costs.

The environment computes for so many milliseconds a step (it holds Python, as a simulator in Python does); SAC makes one
gradient step for each, with two layers of 256 and minibatches of 256. In this process the two take turns; in a worker
process, which ``mode=auto`` chooses from 0.4 ms a step on, they overlap. The numbers learnt are the same.

    python benchmarks/overlap.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from velodrome.envs.adapter import make_envs
from velodrome.rl.sac import learning
from velodrome.rl.sac_config import SACConfig

_WARM_UP = 60


class Heavy(gym.Env[Any, Any]):
    """Takes its time."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (17,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (6,), np.float32)

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Anywhere."""
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 17).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        """Anywhere else, later."""
        until = time.perf_counter() + self.step_s
        while time.perf_counter() < until:
            pass
        return self.np_random.uniform(-1, 1, 17).astype(np.float32), float(action[0]), False, False, {}


def speed(step_s: float, mode: Any, steps: int) -> float:
    """Steps per second, after a warm-up."""
    with make_envs(partial(Heavy, step_s), 1, mode=mode, seed=1) as envs:
        run = learning(envs, SACConfig(learning_starts=50, threads=1), steps=10**6, seed=1)
        for _ in range(_WARM_UP):
            one_step(run)
        began = time.perf_counter()
        for _ in range(steps):
            one_step(run)
        return steps / (time.perf_counter() - began)


def one_step(run: Any) -> None:
    """As ``OffPolicy.update`` does it."""
    action = run._act()
    for _ in range(run._num_due()):
        run._learn()
    run._note(action, run.envs.receive())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{'ms a step':>10}{'in turns':>12}{'overlapping':>14}{'ratio':>8}   steps/s")
    for milliseconds in (0.5, 2.0, 5.0, 10.0):
        found = [[speed(milliseconds / 1e3, mode, given.steps) for mode in ("sync", "process")]
                 for _ in range(given.rounds)]
        here, there = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{milliseconds:>10g}{here:>12.0f}{there:>14.0f}{there / here:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
