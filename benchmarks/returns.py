"""How good the presets are: several seeds an environment, as IQM and 95 % interval, beside what others have published.

    python benchmarks/returns.py                        # what takes minutes
    python benchmarks/returns.py cartpole halfcheetah   # some of them, by name
    python benchmarks/returns.py --list

Each run is ``velo train ALGO --env ID --steps N --seeds S``: the last weights play 20 episodes with the most likely
actions, in environments that training never saw. The published figures were found with protocols that differ.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import velodrome as velo


@dataclass(frozen=True, slots=True)
class Run:
    """What is run: ``match`` is a published return at about so many steps."""

    algo: str
    env: str
    steps: int
    match: float
    source: str
    seeds: int = 5
    is_long: bool = False


RUNS = {
    "cartpole": Run("ppo", "CartPole-v1", 30_000, 500, "at 100,000 steps"),
    "cartpole-dqn": Run("dqn", "CartPole-v1", 50_000, 500, "at 100,000 steps"),
    "acrobot": Run("ppo", "Acrobot-v1", 100_000, -86, "PPO at 500,000"),
    "acrobot-dqn": Run("dqn", "Acrobot-v1", 100_000, -76.6, "DQN at 100,000"),
    "mountaincar": Run("ppo", "MountainCar-v0", 120_000, -101, "DQN at 120,000"),
    "mountaincar-1m": Run("ppo", "MountainCar-v0", 1_000_000, -110, "PPO at 1,000,000"),
    "mountaincar-dqn": Run("dqn", "MountainCar-v0", 120_000, -101, "DQN at 120,000"),
    "mountaincar-continuous": Run("sac", "MountainCarContinuous-v0", 50_000, 94.7, "SAC at 50,000"),
    "pendulum": Run("sac", "Pendulum-v1", 20_000, -157, "SAC at 20,000"),
    "pendulum-crossq": Run("crossq", "Pendulum-v1", 10_000, -157, "SAC at 20,000"),
    "pendulum-td7": Run("td7", "Pendulum-v1", 6_000, -157, "SAC at 20,000"),
    "pendulum-ppo": Run("ppo", "Pendulum-v1", 100_000, -172, "PPO at 100,000"),
    "lunarlander": Run("ppo", "LunarLander-v3", 300_000, 242, "PPO at 1,000,000"),
    "lunarlander-dqn": Run("dqn", "LunarLander-v3", 100_000, 154, "DQN at 100,000", is_long=True),
    "cartpole-memory": Run("ppo", "velodrome/CartPoleNoVelocity-v1", 100_000, 500, "recurrent PPO at 100,000"),
    "pendulum-memory": Run("ppo", "velodrome/PendulumNoVelocity-v1", 100_000, -218, "recurrent PPO at 100,000"),
    "doorkey": Run("ppo", "velodrome/DoorKey-5x5-v0", 100_000, 0.964, "at 100,000"),
    "fourrooms": Run("ppo", "velodrome/FourRooms-v0", 2_000_000, 0.573, "at 5,000,000", seeds=3, is_long=True),
    "breakout": Run("ppo", "MinAtar/Breakout-v1", 4_000_000, 28, "PPO at 10,000,000", seeds=3, is_long=True),
    "asterix": Run("ppo", "MinAtar/Asterix-v1", 4_000_000, 15, "PPO at 10,000,000", seeds=3, is_long=True),
    "space-invaders": Run(
        "ppo", "MinAtar/SpaceInvaders-v1", 4_000_000, 131, "PPO at 10,000,000", seeds=3, is_long=True),
    "freeway": Run("ppo", "MinAtar/Freeway-v1", 4_000_000, 58, "PPO at 10,000,000", seeds=3, is_long=True),
    "halfcheetah-td7": Run("td7", "HalfCheetah-v5", 200_000, 9_300, "CrossQ at 200,000", seeds=3, is_long=True),
    "halfcheetah": Run("crossq", "HalfCheetah-v5", 200_000, 9_300, "CrossQ at 200,000", seeds=3, is_long=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*RUNS, []], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, help="so many, in place of each one's own number")
    parser.add_argument("--store", type=Path, default=Path("returns.db"))
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{name:24}{run.algo:8}{run.env} {run.steps:,}" for name, run in RUNS.items()))
        return
    chosen = given.names or [name for name, run in RUNS.items() if not run.is_long]
    print(f"{'':24}{'algo':8}{'steps':>12}{'seeds':>6}{'IQM':>10}{'95 % interval':>22}{'lowest':>10}  published")
    for name in chosen:
        run = RUNS[name]
        study = velo.train(run.algo, run.env, steps=run.steps, seed=given.seed, seeds=given.seeds or run.seeds,
                           store=given.store, progress=False)
        made = velo.Replicates.of([trial.value for trial in study.trials if trial.value is not None])
        interval = f"{made.low:,.4g} to {made.high:,.4g}"
        print(f"{name:24}{run.algo:8}{run.steps:>12,}{len(made.values):>6}{made.iqm:>10,.4g}{interval:>22}"
              f"{min(made.values):>10,.4g}  {run.match:g} ({run.source})", flush=True)


if __name__ == "__main__":
    main()
