"""Environment steps per second of the simulators, with Gymnasium's own vector environments beside them.

    python benchmarks/simulators.py              # CartPole and MinAtar Breakout, about a minute
    python benchmarks/simulators.py --all        # every simulator that Gymnasium has, too
    python benchmarks/simulators.py --threads 2  # and 32,768 environments on one thread and on two

All run in one process, with the same random actions made beforehand, every measurement in turns with the others; each
figure is the median of ``--repeat`` turns; that of ``step`` has its best turn beside it, as other programs on the
machine only ever take away. Gymnasium's environments spend a step on every reset (next-step autoreset),
which is counted as a step here although it is none. Beside MinAtar's Breakout is the ``minatar`` package, if it is
installed: as many of its environments, one after the other, which are reset when they end.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

import velodrome.envs

BAR_M = 40.0  # million steps/s of CartPole through VectorEnv.step, 1,024 environments, one thread
CLASSIC = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")

_START = """
import time
started_s = time.perf_counter()
import gymnasium, velodrome.envs
envs = gymnasium.make_vec("velodrome/CartPole-v1", num_envs=8)
envs.reset(seed=1)
envs.step(envs.action_space.sample())
print(time.perf_counter() - started_s)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every simulator that Gymnasium has, too")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print(f"million environment steps/s, one thread; {os.cpu_count()} processors, velodrome {velodrome.__version__}, "
          f"gymnasium {gym.__version__}")
    print(f"{'':<28}{'envs':>6}{'step_into':>12}{'step':>12}{'(its best)':>12}{'Gymnasium':>12}"
          f"{'Sync':>12}{'step / best':>12}")
    for name in CLASSIC if args.all else CLASSIC[:1]:
        for num_envs in (64, 1024):
            compare(name, num_envs, args.repeat)
    for num_envs in (256, 1024):
        compare_minatar(num_envs, args.repeat)
    if args.threads > 1:
        print(f"\n{'step_into':<28}{'envs':>6}{'1 thread':>12}{f'{args.threads} threads':>12}")
        one, many = (loop("CartPole-v1", 32_768, num_threads=threads) for threads in (1, args.threads))
        (alone, _), (together, _) = medians(args.repeat, [one, many])
        print(f"{'CartPole-v1':<28}{32_768:>6}{alone:>12.1f}{together:>12.1f}")
    print("\nseconds from the start of Python's imports to the first step of CartPole")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        for what in ("compiled now", "compiled by an earlier process"):
            command = [sys.executable, "-c", _START]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            print(f"{what:<34}{float(done.stdout):>12.2f}")


def compare(name: str, num_envs: int, repeat: int) -> None:
    """Prints a line of the table."""
    loops = [loop(name, num_envs), through_step(gym.make_vec(f"velodrome/{name}", num_envs=num_envs))]
    own = gym.spec(name).vector_entry_point is not None
    if own:
        loops.append(through_step(gym.make_vec(name, num_envs=num_envs, vectorization_mode="vector_entry_point")))
    loops.append(through_step(gym.make_vec(name, num_envs=num_envs, vectorization_mode="sync"), num_steps=2))
    (into, _), (step, best), *pairs = medians(repeat, loops)
    others = [median for median, _ in pairs]
    shown = f"{others[0]:>12.2f}" if own else f"{'-':>12}"
    bar = f"  bar {BAR_M:.0f}" if (name, num_envs) == ("CartPole-v1", 1024) else ""
    ratio = step / max(others)
    print(f"{name:<28}{num_envs:>6}{into:>12.2f}{step:>12.2f}{best:>12.2f}{shown}{others[-1]:>12.3f}{ratio:>12.1f}{bar}")


def compare_minatar(num_envs: int, repeat: int) -> None:
    """Prints the line of MinAtar's Breakout, with the package's under ``Sync``."""
    name = "MinAtar-Breakout-v1"
    loops = [loop(name, num_envs), through_step(gym.make_vec(f"velodrome/{name}", num_envs=num_envs))]
    if importlib.util.find_spec("minatar"):
        loops.append(package_breakout(num_envs))
    (into, _), (step, best), *package = medians(repeat, loops)
    theirs = f"{package[0][0]:>12.3f}{step / package[0][0]:>12.1f}" if package else "   (no package)"
    print(f"{name:<28}{num_envs:>6}{into:>12.2f}{step:>12.2f}{best:>12.2f}{'-':>12}{theirs}")


def package_breakout(num_envs: int) -> Callable[[], float]:
    """Measures a loop over environments of the ``minatar`` package, which gives an observation of each step."""
    from minatar import Environment

    games = [Environment("breakout") for _ in range(num_envs)]
    actions = np.random.default_rng(1).choice(games[0].minimal_action_set(), (8, num_envs)).tolist()
    for game in games:
        game.reset()

    def run() -> float:
        started_s = time.perf_counter()
        for chosen in actions:
            for game, action in zip(games, chosen, strict=True):
                _, ended = game.act(action)
                if ended:
                    game.reset()
                game.state()
        return len(actions) * num_envs / (time.perf_counter() - started_s) / 1e6

    return run


def loop(name: str, num_envs: int, num_threads: int = 1) -> Callable[[], float]:
    """Measures ``step_into``."""
    envs = gym.make_vec(f"velodrome/{name}", num_envs=num_envs, num_threads=num_threads)
    return measured(envs, envs.unwrapped.step_into, max(20, 1_000_000 // num_envs))


def through_step(envs: gym.vector.VectorEnv, num_steps: int | None = None) -> Callable[[], float]:
    """Measures ``VectorEnv.step``."""
    return measured(envs, envs.step, num_steps or max(20, 1_000_000 // envs.num_envs))


def measured(envs: gym.vector.VectorEnv, step: Callable[[Any], Any], num_steps: int) -> Callable[[], float]:
    """A function that takes ``num_steps`` steps and returns million environment steps/s."""
    envs.reset(seed=1)
    envs.action_space.seed(1)
    actions = [envs.action_space.sample() for _ in range(32)]
    for action in actions:
        step(action)

    def run() -> float:
        started_s = time.perf_counter()
        for number in range(num_steps):
            step(actions[number & 31])
        return num_steps * envs.num_envs / (time.perf_counter() - started_s) / 1e6

    return run


def medians(repeat: int, loops: list[Callable[[], float]]) -> list[tuple[float, float]]:
    """Median and best of ``repeat`` turns of each; the turns alternate, so that a noisy moment meets all of them."""
    turns = np.array([[run() for run in loops] for _ in range(repeat)])
    return [(float(np.median(column)), float(column.max())) for column in turns.T]


if __name__ == "__main__":
    main()
