"""Schedulers on learning curves of TaskSet and LCBench, by a simulated clock, with Syne Tune's ASHA in the same run.

    python benchmarks/schedulers.py DATA --peer PYTHON    # about ten minutes

``DATA`` is a folder with the folders ``taskset`` and ``lcbench`` (``learning_curves.py`` says from where; LCBench needs
onnxruntime). ``PYTHON`` is an interpreter whose environment has syne-tune; without it, only ours are run.

Eight simulated workers draw configurations at random from the same pool, ours none twice. Syne Tune's searcher repeats
itself, so that its scheduler is also run on a shuffled pool. What a run has found is the lowest loss
reported so far. The table shows its normalised regret (0: the best of the pool; 1: the median configuration's best)
when the workers have spent as much as so many whole trainings cost. A seed's figure is the mean over the tasks; shown
are the median of the seeds, and their interquartile mean with its 95 % bootstrap interval. Then what a pause costs in a
real worker process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from learning_curves import Pool, pools

import velodrome as velo
from velodrome.trials.simulated_executor import Costs

WORKERS = 8
REDUCTION = 3
BUDGETS = (5, 10, 20, 40)
"""In whole trainings."""
_PAUSING = """
import velodrome as velo

@velo.objective(velo.Space(x=velo.Float(0.0, 1.0)), goal="minimize loss")
def train(trial):
    weights = trial.restore()
    if weights is None:
        weights = [0.0] * 1000
    for step in range((trial.restored_step or 0) + 1, 21):
        trial.report(step, loss=trial.params["x"] / step)
        trial.checkpoint(step, weights)
    return trial.params["x"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with taskset/ and lcbench/")
    parser.add_argument("--peer", help="a Python interpreter with syne-tune")
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    found = pools(args.data)
    print(f"{len(found)} tasks, {args.seeds} seeds, {WORKERS} simulated workers\n")
    by_system = {name: [ours(pool, name, args.seeds) for pool in found] for name in systems(found[0])}
    if args.peer:
        by_system["Syne Tune's ASHA"] = peers(found, args.peer, args.seeds, unique=False)
        by_system["the same, no configuration twice"] = peers(found, args.peer, args.seeds, unique=True)
    for family in ("taskset", "lcbench"):
        chosen = [i for i, pool in enumerate(found) if pool.name.startswith(family)]
        if chosen:
            show(family, [found[i] for i in chosen], {n: [runs[i] for i in chosen] for n, runs in by_system.items()})
    pausing()


def systems(pool: Pool) -> dict[str, str]:
    """Our schedulers by the names that the table shows. PBT is not among them: a table knows no inherited weights."""
    options = f"reduction={REDUCTION},max_steps={{}}"
    return {
        "asha": f"asha:{options}", "asha:type=stop": f"asha:type=stop,{options}", "hyperband": f"hyperband:{options}",
        "median": "median", "none (random search)": "none",
    }


Run = list[tuple[float, float]]
"""Incumbents: simulated seconds and loss."""


def limit_s(pool: Pool) -> float:
    return BUDGETS[-1] * pool.full_s / WORKERS


def ours(pool: Pool, name: str, seeds: int) -> list[Run]:
    scheduler = systems(pool)[name].format(pool.num_steps)
    space = velo.Space(index=velo.Int(0, len(pool.losses) - 1))
    runs = []
    for seed in range(seeds):
        done = velo.simulate(
            pool, space, goal="minimize loss", trials=len(pool.losses), scheduler=scheduler, seed=seed, workers=WORKERS,
            timeout_s=limit_s(pool), costs=Costs(suggest_s=0.0),
        )
        runs.append([(i.at_s, i.value) for i in done.incumbents])
    return runs


def peers(found: list[Pool], python: str, seeds: int, *, unique: bool) -> list[list[Run]]:
    with tempfile.TemporaryDirectory() as folder:
        arrays = {f"losses{i}": pool.losses for i, pool in enumerate(found)}
        arrays |= {f"seconds{i}": pool.seconds for i, pool in enumerate(found)}
        np.savez(Path(folder, "pools.npz"), **arrays)
        ask = {"seeds": seeds, "workers": WORKERS, "reduction": REDUCTION, "limits_s": [limit_s(p) for p in found],
               "unique": unique, "out": str(Path(folder, "runs.json"))}
        script = Path(__file__).with_name("schedulers_peer.py")
        subprocess.run([python, str(script), str(Path(folder, "pools.npz")), json.dumps(ask)], check=True)
        runs: list[list[Run]] = json.loads(Path(folder, "runs.json").read_text())
        return runs


def show(family: str, found: list[Pool], by_system: dict[str, list[list[Run]]]) -> None:
    print(f"## {family}, {len(found)} tasks: normalised regret at the cost of so many whole trainings\n")
    print("| scheduler | " + " | ".join(map(str, BUDGETS)) + " |\n|---" + "|---" * len(BUDGETS) + "|")
    for name, tasks in by_system.items():
        cells = []
        for budget in BUDGETS:
            regrets = [
                float(np.mean([regret_at(pool, task[seed], budget) for pool, task in zip(found, tasks, strict=True)]))
                for seed in range(len(tasks[0]))
            ]
            summary = velo.Replicates.of(regrets)
            interval = f"{summary.low:.3f} to {summary.high:.3f}"
            cells.append(f"{statistics.median(regrets):.3f}; {summary.iqm:.3f} ({interval})")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()


def regret_at(pool: Pool, run: Run, budget: float) -> float:
    at_s = budget * pool.full_s / WORKERS
    losses = [loss for when_s, loss in run if when_s <= at_s]
    return pool.regret(losses[-1]) if losses else 1.0


def pausing() -> None:
    """Eight trials of 20 steps on one worker, each paused after every step: from one's leaving to the next's state.

    The store's own times: the first is taken when the worker has said that it left, the second when the next trial has
    its checkpoint back. How long the checkpoint takes to be written is not in it: it is made in any case.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.py")
        path.write_text(_PAUSING)
        study = velo.sweep(
            str(path), trials=8, workers=1, sampler="random", seed=1, progress=False,
            scheduler="pbt:population=8,quantile=0,interval=1", store=Path(folder, "velodrome.db"),
        )
        rows = study.query(
            "select kind, at from events where study_id = :study_id and kind in ('paused', 'restored') order by seq"
        )
    pairs = [(a, b) for a, b in pairwise(rows) if (a["kind"], b["kind"]) == ("paused", "restored")]
    gaps_ms = [1000 * (b["at"] - a["at"]) for a, b in pairs]
    low, middle, high = statistics.quantiles(gaps_ms, n=4)
    print(f"from one trial's pause to the next one's restored checkpoint, in a worker process: {middle:.1f} ms "
          f"(middle half {low:.1f} to {high:.1f}; {len(gaps_ms)} pauses)")


if __name__ == "__main__":
    main()
