"""Where learning is quicker, on a CPU or on a GPU: environment steps per second of each algorithm, learning included.

    python benchmarks/devices.py                    # the CPU alone
    python benchmarks/devices.py --devices cpu cuda
    python benchmarks/devices.py --devices cpu cuda --only SAC --at-once 8

Each with its default settings and those named below, from the end of a warm-up on, in processes of their own that take
turns; the table has medians. ``--threads`` are torch's on a CPU; a GPU's process has as many. With ``--at-once``, so
many runs share a GPU, or have a core each, and their speeds are added up.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from turns import steps_per_second

RAINBOW = ("num_envs=1 updates_per_step=1 learning_starts=200 double=true dueling=true noisy=true prioritized=true "
           "n_step=3 distributional=categorical v_min=0 v_max=100")
CASES: dict[str, tuple[str, str, str, int]] = {
    "PPO, CartPole": ("ppo", "velodrome/CartPole-v1", "num_envs=64 num_steps=128", 81_920),
    "PPO, HalfCheetah": ("ppo", "HalfCheetah-v5", "num_envs=8 num_steps=512", 8_192),
    "PPO with memory, CartPole": ("ppo", "velodrome/CartPoleNoVelocity-v1", "num_envs=64 num_steps=64", 16_384),
    "PPO, MinAtar Breakout": ("ppo", "MinAtar/Breakout-v1", "num_envs=64 num_steps=128", 32_768),
    "PPO, Pong": ("ppo", "ALE/Pong-v5", "num_envs=8 num_steps=128", 6_144),
    "DQN, CartPole": ("dqn", "velodrome/CartPole-v1", "num_envs=1 updates_per_step=1 learning_starts=200", 1_024),
    "DQN, Rainbow's switches, CartPole": ("dqn", "velodrome/CartPole-v1", RAINBOW, 1_024),
    "DQN, MinAtar Breakout": ("dqn", "MinAtar/Breakout-v1", "num_envs=1 updates_per_step=1 learning_starts=200", 1_024),
    "SAC, HalfCheetah": ("sac", "HalfCheetah-v5", "learning_starts=200", 1_024),
    "CrossQ, HalfCheetah": ("crossq", "HalfCheetah-v5", "learning_starts=200", 1_024),
    "TD7, HalfCheetah": ("td7", "HalfCheetah-v5", "learning_starts=200", 512),
}

CODE = """
import sys, time
import torch
from velodrome.envs.adapter import make_envs
from velodrome.rl.algorithms import RunConfig, env_settings, learning_of, learns_meanwhile, read_params, training_space

algo, env, device, threads, steps = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
space = training_space(algo, env, 10**6, [*sys.argv[6:], f"device={device}", f"threads={threads}"])
_, config = read_params({name: domain.options[0] for name, domain in space.domains.items()})
with make_envs(env, config.num_envs, learns_meanwhile=learns_meanwhile(algo), **env_settings(env, RunConfig())) as envs:
    run = learning_of(algo)(envs, config, steps=10**6, seed=1, device=device)
    while run.steps_done < max(500, config.num_envs * getattr(config, "num_steps", 1)):
        run.update()
    begun, start = run.steps_done, time.perf_counter()
    while run.steps_done < begun + steps:
        run.update()
    if device == "cuda":
        torch.cuda.synchronize()
    print((run.steps_done - begun) / (time.perf_counter() - start))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", choices=("cpu", "cuda"), nargs="+", default=["cpu"])
    parser.add_argument("--only", default="", help="those with this text in their name")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    given = parser.parse_args()
    print(f"{'':36}" + "".join(f"{device + ', steps/s':>16}" for device in given.devices))
    for name, (algo, env, settings, steps) in CASES.items():
        if given.only.lower() not in name.lower():
            continue
        found: dict[str, list[float]] = {device: [] for device in given.devices}
        for _ in range(given.rounds):
            for device in given.devices:
                words = (algo, env, device, given.threads, steps, *settings.split())
                run = partial(steps_per_second, sys.executable, CODE, given.threads, *words)
                with ThreadPoolExecutor(given.at_once) as pool:
                    together = [pool.submit(run) for _ in range(given.at_once)]
                    found[device].append(sum(each.result() for each in together))
        print(f"{name:36}" + "".join(f"{statistics.median(speeds):>16,.0f}" for speeds in found.values()), flush=True)


if __name__ == "__main__":
    main()
