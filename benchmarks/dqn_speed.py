"""DQN on CartPole-v1: environment steps per second, beside Stable-Baselines3 in the same run.

CleanRL's settings: two hidden layers (ours 100 and 100, theirs 120 and 84: 1 % fewer products), a gradient step
with a minibatch of 128 every 10 environment steps, the target network copied every 500. One thread each, from the end
of a warm-up on, environments and learning included. Then the same with 10 environments and a gradient step after
each step of all.

    python benchmarks/dqn_speed.py

Stable-Baselines3 is no dependency of ours; give it an environment of its own and name its Python:

    python -m venv /tmp/sb3 && /tmp/sb3/bin/pip install stable-baselines3
    python benchmarks/dqn_speed.py --peer /tmp/sb3/bin/python

They take turns, ``--rounds`` times each; the table has medians, so that a busy machine hits all alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from turns import print_speeds, steps_per_second

STEPS = 10_000

OURS = """
import sys, time
from velodrome.envs.adapter import make_envs
from velodrome.rl.dqn import learning
from velodrome.rl.dqn_config import DQNConfig

num_envs, steps = int(sys.argv[1]), int(sys.argv[2])
config = DQNConfig(num_envs=num_envs, width=100, depth=2, batch_size=128, updates_per_step=0.1, target_every=500,
                   lr=2.5e-4, buffer_size=10_000, learning_starts=1_000, double=False, exploration_fraction=0.1)
with make_envs("CartPole-v1", num_envs) as envs:
    run = learning(envs, config, steps=3_000 + steps, seed=1)
    while run.steps_done < 3_000:
        run.update()
    begin, start = run.steps_done, time.perf_counter()
    while run.steps_done < begin + steps:
        run.update()
    print((run.steps_done - begin) / (time.perf_counter() - start))
"""

PEER = """
import sys, time, torch
torch.set_num_threads(1)
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env

num_envs, steps = int(sys.argv[1]), int(sys.argv[2])
model = DQN("MlpPolicy", make_vec_env("CartPole-v1", num_envs), learning_rate=2.5e-4, buffer_size=10_000,
            learning_starts=1_000, batch_size=128, train_freq=max(1, 10 // num_envs),
            gradient_steps=max(1, num_envs // 10), target_update_interval=500,
            policy_kwargs={"net_arch": [120, 84]}, device="cpu")
model.learn(3_000)
start = time.perf_counter()
model.learn(steps)
print(steps / (time.perf_counter() - start))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has stable_baselines3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 10])
    given = parser.parse_args()
    runs = [("velodrome", sys.executable, OURS), *([("Stable-Baselines3", given.peer, PEER)] if given.peer else [])]
    speeds: dict[tuple[str, int], list[float]] = {}
    for _ in range(given.rounds):
        for num_envs in given.envs:
            for name, python, code in runs:
                speed = steps_per_second(python, code, 1, num_envs, STEPS)
                speeds.setdefault((name, num_envs), []).append(speed)
    print_speeds("envs", speeds)
    if given.peer:
        for num_envs in given.envs:
            ours, theirs = (statistics.median(speeds[name, num_envs]) for name, *_ in runs)
            print(f"{num_envs} environments: {ours / theirs:.2f} times Stable-Baselines3")


if __name__ == "__main__":
    main()
