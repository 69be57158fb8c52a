"""Syne Tune's ASHA on the pools of ``schedulers.py``: run by it, in an environment of its own that has syne-tune.

Syne Tune's scheduler class, with its own random searcher, is driven by a loop over the same simulated clock: a worker
that is free gets ``suggest()`` at once, every step is told to ``on_trial_result``. Reads the pools from a file, writes
each run's incumbents (seconds, loss) to another.
"""

from __future__ import annotations

import heapq
import json
import logging
import math
import sys

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import randint
from syne_tune.optimizer.baselines import ASHA
from syne_tune.optimizer.scheduler import SchedulerDecision

logging.disable(logging.WARNING)


def main() -> None:
    pools_file, ask = sys.argv[1], json.loads(sys.argv[2])
    with np.load(pools_file) as arrays:
        runs = [
            [run(arrays[f"losses{i}"], arrays[f"seconds{i}"], limit_s, seed, ask) for seed in range(ask["seeds"])]
            for i, limit_s in enumerate(ask["limits_s"])
        ]
    with open(ask["out"], "w") as out:  # noqa: PTH123 - the peer's environment has nothing of ours
        json.dump(runs, out)


def run(
    losses: np.ndarray, seconds: np.ndarray, limit_s: float, seed: int, ask: dict[str, float]
) -> list[tuple[float, float]]:
    np.random.seed(seed)  # noqa: NPY002 - its scheduler draws from the global generator
    steps = losses.shape[1]
    shuffled = np.random.default_rng(seed).permutation(len(losses)).tolist() if ask["unique"] else []
    scheduler = ASHA(
        {"index": randint(0, len(losses) - 1)}, metric="loss", time_attr="step", max_t=steps, do_minimize=True,
        random_seed=seed, grace_period=1, reduction_factor=ask["reduction"],
        points_to_evaluate=[{"index": index} for index in shuffled] or None,
    )
    due: list[tuple[float, int, Trial, int]] = []
    incumbents: list[tuple[float, float]] = []
    count = 0

    def start(now_s: float) -> None:
        nonlocal count
        suggestion = scheduler.suggest()
        trial = Trial(count, suggestion.config, None)
        scheduler.on_trial_add(trial)
        heapq.heappush(due, (now_s + seconds[trial.config["index"]][0], count, trial, 1))
        count += 1

    for _ in range(int(ask["workers"])):
        start(0.0)
    while due:
        now_s, order, trial, step = heapq.heappop(due)
        if now_s > limit_s:
            break
        loss = float(losses[trial.config["index"]][step - 1])
        if math.isfinite(loss) and (not incumbents or loss < incumbents[-1][1]):
            incumbents.append((now_s, loss))
        result = {"loss": loss if math.isfinite(loss) else 1e30, "step": step}
        if step == steps:
            scheduler.on_trial_complete(trial, result)
            start(now_s)
        elif scheduler.on_trial_result(trial, result) == SchedulerDecision.STOP:
            scheduler.on_trial_remove(trial)
            start(now_s)
        else:
            heapq.heappush(due, (now_s + seconds[trial.config["index"]][step], order, trial, step + 1))
    return incumbents


if __name__ == "__main__":
    main()
