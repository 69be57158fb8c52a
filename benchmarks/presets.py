"""Where presets come from: a sweep around each, then the best of it and the preset as it was, over several seeds.

    python benchmarks/presets.py                     # all
    python benchmarks/presets.py cartpole acrobot    # some of them, by name
    python benchmarks/presets.py --list

A sweep is what ``velo sweep ALGO --env ID -p NAME=LOW..HIGH`` runs. Its trials have one seed each, so that the first
of them may just have been lucky: the best three settings and the preset meet again over ``SEEDS`` seeds, and the
highest interquartile mean wins. Where so few seeds, or so few steps, do not tell the best two apart, these meet once
more, over other seeds. All seeds are 100 and up; benchmarks/returns.py measures with others.

The store keeps all stages as studies, so that a search that was cut goes on when it is started again: studies that
are whole there are used as they are, others are resumed. What is kept as evidence is ``benchmarks/presets/NAME.csv``:
every trial, its return, and the settings that were searched. A test compares the winner there with ``rl/presets.py``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import velodrome as velo
from velodrome.errors import NotFoundError
from velodrome.rl.algorithms import GOAL, OBJECTIVE, training_space

SEEDS, FINALISTS, FIRST_SEED = 4, 3, 100
EVIDENCE = Path(__file__).with_name("presets")


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched around the preset of an environment, and how often.

    ``runoff`` is over how many seeds the best two meet once more, and over how many steps.
    """

    algo: str
    env: str
    steps: int
    trials: int
    domains: tuple[str, ...]
    runoff: tuple[int, int] | None = None


_MINATAR = ("num_envs=32|64|128", "num_steps=64|128", "epochs=2|4|8", "minibatches=8|16", "lr=1e-3..5e-3:log",
            "gamma=0.98|0.99", "gae_lambda=0.9|0.95", "entropy_coef=3e-3..0.03:log")

SEARCHES = {
    # CartPole with fewer steps than it is measured with, for with all of them most settings reach 500; and with
    # minibatches of 64 rows or more: those of 16 learn from fewer steps, and take three times as long for it.
    "cartpole": Search("ppo", "CartPole-v1", 20_000, 40, (
        "num_envs=16|32", "num_steps=32|64", "epochs=4|8|16", "minibatches=2|4|8", "lr=5e-4..5e-3:log",
        "gamma=0.98|0.99", "gae_lambda=0.8|0.9|0.95")),
    "acrobot": Search("ppo", "Acrobot-v1", 100_000, 30, (
        "num_envs=16|32", "num_steps=16|32|64", "epochs=4|8|16", "minibatches=4|8", "lr=5e-4..5e-3:log",
        "gae_lambda=0.9|0.95|0.98", "entropy_coef=1e-4..0.03:log")),
    "mountaincar": Search("ppo", "MountainCar-v0", 120_000, 32, (
        "num_envs=16|32", "num_steps=16|32|64", "epochs=8|16", "minibatches=4|8", "lr=1e-3..6e-3:log",
        "gamma=0.99|0.995", "gae_lambda=0.95|0.98", "entropy_coef=3e-3..0.1:log")),
    "mountaincar-continuous": Search("sac", "MountainCarContinuous-v0", 50_000, 14, (
        "lr=1e-3..4e-3:log", "critic_lr=1e-3..4e-3:log", "gamma=0.99|0.995", "tau=0.01|0.02|0.05", "n_step=1|3|5",
        "noise_memory=0.9|0.95|0.98")),
    "mountaincar-dqn": Search("dqn", "MountainCar-v0", 120_000, 12, (
        "batch_size=64|128", "width=128|256", "lr=5e-4..2e-3:log", "updates_per_step=0.25|0.5",
        "target_every=100|250|500", "n_step=3|5|10", "random_steps=10|20|40")),
    "acrobot-dqn": Search("dqn", "Acrobot-v1", 100_000, 10, (
        "batch_size=64|128", "width=128|256", "lr=3e-4..2e-3:log", "updates_per_step=0.5|1.0",
        "target_every=100|250|500", "n_step=1|3|5", "eps_end=0.02|0.1")),
    "pendulum": Search("sac", "Pendulum-v1", 20_000, 16, (
        "width=64|128", "lr=5e-4..3e-3:log", "critic_lr=5e-4..3e-3:log", "gamma=0.95|0.98|0.99", "tau=0.005|0.01|0.02",
        "n_step=1|3")),
    "pendulum-memory": Search("ppo", "velodrome/PendulumNoVelocity-v1", 100_000, 20, (
        "num_envs=16|32", "num_steps=64|128", "epochs=10|15|20", "minibatches=2|4|8", "lr=1e-3..6e-3:log",
        "gae_lambda=0.9|0.95", "gamma=0.9|0.95")),
    "pendulum-ppo": Search("ppo", "Pendulum-v1", 100_000, 16, (
        "num_envs=4|8|16", "num_steps=256|512|1024", "epochs=5|10|15", "minibatches=16|32|64", "lr=3e-4..3e-3:log",
        "gamma=0.9|0.95", "gae_lambda=0.9|0.95")),
    # With 40,000 steps in place of 100,000, which most settings solve it with.
    "cartpole-memory": Search("ppo", "velodrome/CartPoleNoVelocity-v1", 40_000, 20, (
        "num_envs=16|32", "num_steps=32|64|128", "epochs=4|8|12", "minibatches=2|4|8", "lr=5e-4..5e-3:log",
        "gamma=0.98|0.99", "gae_lambda=0.8|0.9|0.95")),
    "pendulum-td7": Search("td7", "Pendulum-v1", 6_000, 12, (
        "width=64|128", "embedding=32|64|128", "batch_size=64|128|256", "lr=5e-4..3e-3:log", "critic_lr=5e-4..3e-3:log",
        "gamma=0.95|0.98|0.99", "target_every=100|250")),
    "lunarlander": Search("ppo", "LunarLander-v3", 200_000, 16, (
        "num_steps=128|256", "epochs=4|8", "minibatches=16|32", "lr=5e-4..3e-3:log", "gamma=0.99|0.995|0.999",
        "gae_lambda=0.95|0.98", "entropy_coef=1e-3..0.02:log")),
    "doorkey": Search("ppo", "velodrome/DoorKey-5x5-v0", 60_000, 24, (
        "num_envs=16|32", "num_steps=64|128", "epochs=4|8|12", "minibatches=4|8|16", "lr=5e-4..4e-3:log",
        "gamma=0.95|0.98|0.99", "entropy_coef=3e-3..0.03:log")),
    # These and HalfCheetah with 12 to 40 % of the steps that they are measured with.
    "fourrooms": Search("ppo", "velodrome/FourRooms-v0", 500_000, 14, (
        "num_envs=32|64", "num_steps=32|64|128", "epochs=2|4|8", "minibatches=4|8|16", "lr=3e-4..3e-3:log",
        "gamma=0.98|0.99", "gae_lambda=0.9|0.95", "entropy_coef=3e-3..0.03:log")),
    "breakout": Search("ppo", "MinAtar/Breakout-v1", 500_000, 12, _MINATAR),
    "asterix": Search("ppo", "MinAtar/Asterix-v1", 1_500_000, 10, _MINATAR),
    "space-invaders": Search("ppo", "MinAtar/SpaceInvaders-v1", 600_000, 10, _MINATAR),
    "freeway": Search("ppo", "MinAtar/Freeway-v1", 600_000, 10, _MINATAR),
    "seaquest": Search("ppo", "MinAtar/Seaquest-v1", 1_500_000, 10, _MINATAR),
    "halfcheetah": Search("crossq", "HalfCheetah-v5", 30_000, 10, (
        "learning_starts=2500|5000|10000", "lr=5e-4..2e-3:log", "critic_lr=5e-4..2e-3:log", "gamma=0.98|0.99",
        "noise_memory=0.0|0.5"), runoff=(3, 200_000)),
    "cartpole-dqn": Search("dqn", "CartPole-v1", 30_000, 24, (
        "batch_size=32|64|128", "lr=3e-4..3e-3:log", "target_every=100|250|500", "n_step=1|3|5",
        "exploration_fraction=0.05..0.3", "distributional=none|categorical")),
}


def run(name: str, store: Path) -> None:
    """Sweeps, lets the best meet the preset, and writes the evidence."""
    search = SEARCHES[name]
    names = [text.partition("=")[0] for text in search.domains]
    space = training_space(search.algo, search.env, search.steps, search.domains, search=True)
    study = whole_study(f"{name}-search", store, search.trials, space, partial(
        velo.sweep, OBJECTIVE, space, trials=search.trials, goal=GOAL, sampler="tpe", seed=FIRST_SEED, progress=False))
    trials = [trial for trial in study.trials if trial.value is not None]
    best = sorted(trials, key=lambda trial: -(trial.value or 0.0))[:FINALISTS]
    before = training_space(search.algo, search.env, search.steps).sample(np.random.default_rng(0))  # there is one
    finalists = {"preset": {key: before[key] for key in names}}
    finalists |= {f"trial {trial.number}": {key: trial.params[key] for key in names} for trial in best}
    print(f"{name}: {search.algo} {search.env}, {search.steps:,} steps, {len(trials)} trials")
    stages = {"final": _meet(search, finalists, name, store, FIRST_SEED + 1, SEEDS, search.steps)}
    if search.runoff:
        two = {label: finalists[label] for label in [*stages["final"]][:2]}
        stages["runoff"] = _meet(search, two, f"{name}-runoff", store, FIRST_SEED + 2, *search.runoff)
    rows = [["search", str(trial.number), trial.value, *(trial.params[key] for key in names)] for trial in trials]
    for stage, met in stages.items():
        rows += [[stage, label, iqm, *finalists[label].values()] for label, iqm in met.items()]
    EVIDENCE.mkdir(exist_ok=True)
    with (EVIDENCE / f"{name}.csv").open("w", newline="") as file:
        runoff = "; runoff: of {} others, {} steps".format(*search.runoff) if search.runoff else ""
        file.write(f"# {search.algo} {search.env} {search.steps} steps; final: IQM of {SEEDS} seeds{runoff}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["stage", "trial", "return", *names])
        writer.writerows(rows)


def whole_study(
    name: str, store: Path, trials: int, space: velo.Space, start: Callable[..., velo.Study]
) -> velo.Study:
    """The study of that name with all its trials: from the store, resumed where some are missing, or started."""
    try:
        study = velo.load_study(name, store=store)
    except NotFoundError:
        return start(name=name, store=store)
    if study.space != space:
        sys.exit(f"Study {name} in {store} searches something else: {'; '.join(study.space.diff(space))}.\n"
                 "Name another store: --store PATH")
    if sum(trial.state.is_finished for trial in study.trials) >= trials:
        return study
    return velo.resume(name, trials=trials, store=store, progress=False)


def _meet(
    search: Search, finalists: Mapping[str, Mapping[str, Any]], name: str, store: Path, seed: int, seeds: int,
    steps: int,
) -> dict[str, float]:
    """The interquartile mean of each over so many seeds, derived from ``seed``, and steps; the best first."""
    met = {}
    for label, settings in finalists.items():
        space = training_space(search.algo, search.env, steps, settings)
        study = whole_study(f"{name}-{label.replace(' ', '-')}", store, seeds, space, partial(
            velo.train, search.algo, search.env, steps=steps, seed=seed, seeds=seeds, progress=False, **settings))
        found = velo.Replicates.of([trial.value for trial in study.trials if trial.value is not None])
        met[label] = found.iqm
        print(f"  {label:10}{found.iqm:>10.4g}  {found.low:.4g} to {found.high:.4g}  {settings}", flush=True)
    return dict(sorted(met.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SEARCHES, []], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--store", type=Path, default=Path("presets.db"))
    given = parser.parse_args()
    if given.list:
        for name, search in SEARCHES.items():
            print(f"{name:24}{search.algo:8}{search.env} {search.steps:,} steps, {search.trials} trials")
        return
    for name in given.names or SEARCHES:
        run(name, given.store)


if __name__ == "__main__":
    main()
