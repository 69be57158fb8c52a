"""How many steps a second an environment does, alone and in batches, and what to make of that."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from velodrome.envs.adapter import Mode, make_envs, num_cores, step_time_s
from velodrome.envs.adapter_errors import EnvError, EnvLostError
from velodrome.envs.adapter_factory import EnvFactory
from velodrome.envs.adapter_spaces import ActionLayout
from velodrome.envs.env_batch import EnvBatch

NUM_ENVS = 8
_PAYS = 1.2
"""Worker processes must be so many times quicker to be worth the cores that the learner then lacks."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Steps a second of all environments together; ``problem`` is why there are none."""

    mode: str
    num_envs: int
    steps_per_s: float
    source: str
    problem: str = ""


def time_env(factory: EnvFactory, seconds: float = 1.0) -> list[Timing]:
    """One environment, then eight in each way that it can be stepped; about ``seconds`` each."""
    env = factory()
    try:
        per_step = step_time_s(env, 10**9, seconds)
    finally:
        env.close()
    timings = [Timing("single", 1, 1 / per_step, "one environment")]
    modes: tuple[Mode, ...] = ("sync", "process", "auto")
    for mode in modes:
        try:
            with make_envs(
                factory.target, NUM_ENVS, seed=1, mode=mode, wrappers=factory.wrappers, kwargs=factory.kwargs
            ) as envs:
                if envs.source not in {timing.source for timing in timings}:
                    timings.append(Timing(mode, NUM_ENVS, _steps_per_s(envs, seconds), envs.source))
        except (EnvError, EnvLostError) as error:
            timings.append(Timing(mode, NUM_ENVS, 0.0, "", error.what))
    return timings


def recommend(timings: list[Timing]) -> str:
    """Which mode to use, with its reason."""
    by_mode = {timing.mode: timing.steps_per_s for timing in timings}
    sync, process, batch = by_mode["sync"], by_mode["process"], by_mode.get("auto", 0.0)
    if batch > max(sync, process):
        return f"mode='auto': as one batch it does {batch / max(sync, process):.1f} times the steps of the next best"
    if process > _PAYS * sync:
        return f"mode='process': {process / sync:.1f} times the steps of this process alone, on {num_cores()} cores"
    if not sync:
        return "none: it can't be stepped in batches"
    return f"mode='sync': worker processes do {process / sync:.1f} times its steps, which does not pay for their cores"


def random_actions(layout: ActionLayout, num: int, rng: np.random.Generator, mask: Any = None) -> np.ndarray[Any, Any]:
    """``[num, *shape]`` random actions; allowed ones where there is a mask of a discrete space."""
    if layout.kind == "box":
        low, high = np.maximum(layout.low, -1.0), np.minimum(layout.high, 1.0)
        low, high = np.where(low <= high, low, layout.low), np.where(low <= high, high, layout.high)
        return rng.uniform(low, high, (num, *layout.shape)).astype(layout.dtype)
    if layout.kind == "discrete" and mask is not None:
        allowed: np.ndarray[Any, Any] = (rng.random(mask.shape) * mask).argmax(axis=1)
        return allowed
    sizes = np.asarray(layout.sizes).reshape(layout.shape) if layout.sizes else 2
    return rng.integers(0, sizes, (num, *layout.shape)).astype(layout.dtype)


def _steps_per_s(envs: EnvBatch, seconds: float) -> float:
    rng = np.random.default_rng(1)
    envs.reset()
    envs.step(random_actions(envs.action_layout, envs.num_envs, rng, envs.action_mask))
    began, num = time.perf_counter(), 0
    while (taken_s := time.perf_counter() - began) < seconds:
        envs.step(random_actions(envs.action_layout, envs.num_envs, rng, envs.action_mask))
        num += envs.num_envs
    return num / taken_s
