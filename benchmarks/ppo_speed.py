"""PPO on CartPole-v1: environment steps per second, beside Stable-Baselines3 in the same run.

64 environments, rollouts of 128 steps, 4 passes of 4 minibatches, two hidden layers of 64 with tanh; both from the
end of a warm-up of two updates on, environments, learning and episode statistics included.

    python benchmarks/ppo_speed.py

Stable-Baselines3 is no dependency of ours; give it an environment of its own and name its Python:

    python -m venv /tmp/sb3 && /tmp/sb3/bin/pip install stable-baselines3
    python benchmarks/ppo_speed.py --peer /tmp/sb3/bin/python

The two take turns, ``--rounds`` times each; the table has medians, so that a busy machine hits both alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

UPDATES = 20
STEPS = 64 * 128 * UPDATES

OURS = """
import sys, time, torch
from velodrome.envs.adapter import make_envs
from velodrome.rl.ppo_config import PPOConfig
from velodrome.rl.on_policy import OnPolicy

threads, updates = int(sys.argv[1]), int(sys.argv[2])
with make_envs("CartPole-v1", 64) as envs:
    training = OnPolicy(envs, PPOConfig(num_envs=64, num_steps=128, threads=threads), steps=10**9, seed=1)
    for _ in range(2):
        training.update()
    start = time.perf_counter()
    for _ in range(updates):
        training.update()
    print(64 * 128 * updates / (time.perf_counter() - start))
"""

PEER = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

steps = 64 * 128 * int(sys.argv[2])
model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 64), n_steps=128, batch_size=2048, n_epochs=4, device="cpu")
model.learn(2 * 64 * 128)
start = time.perf_counter()
model.learn(steps)
print(steps / (time.perf_counter() - start))
"""


def measure(python: str, code: str, threads: int) -> float:
    """Steps per second in a fresh process."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code, str(threads), str(UPDATES)], env=env, capture_output=True, text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has stable_baselines3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    runs = [("velodrome", sys.executable, OURS), *([("Stable-Baselines3", given.peer, PEER)] if given.peer else [])]
    speeds: dict[tuple[str, int], list[float]] = {}
    for _ in range(given.rounds):
        for threads in given.threads:
            for name, python, code in runs:
                speeds.setdefault((name, threads), []).append(measure(python, code, threads))
    print(f"{'':20}{'threads':>8}{'steps/s':>12}{'lowest':>12}{'highest':>12}")
    for (name, threads), found in speeds.items():
        print(f"{name:20}{threads:>8}{statistics.median(found):>12,.0f}{min(found):>12,.0f}{max(found):>12,.0f}")
    if given.peer:
        ours, theirs = (max(statistics.median(f) for (n, _), f in speeds.items() if n == name) for name, *_ in runs)
        print(f"the better of each: {ours / theirs:.2f} times Stable-Baselines3")


if __name__ == "__main__":
    main()
