"""SAC on HalfCheetah-v5: environment steps per second, beside Stable-Baselines3 in the same run.

One environment, a gradient step for each environment step, minibatches of 256, two hidden layers of 256, as both have
by default; from the end of a warm-up on.

    python benchmarks/sac_speed.py --peer PYTHON        # a Python that has stable_baselines3 and gymnasium[mujoco]

The two take turns, ``--rounds`` times each; the table has medians. ``--cpu-time`` counts processor time in place of the
clock's, for a machine that is busy with something else.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from turns import print_speeds, steps_per_second

OURS = """
import sys, time
from velodrome.envs.adapter import make_envs
from velodrome.rl.sac import learning
from velodrome.rl.sac_config import SACConfig

clock = time.process_time if sys.argv[2] == "cpu" else time.perf_counter
steps = int(sys.argv[3])
with make_envs("HalfCheetah-v5", 1) as envs:
    config = SACConfig(learning_starts=200, threads=int(sys.argv[1]), device=sys.argv[4])
    run = learning(envs, config, steps=10**6, seed=1, device=sys.argv[4])
    while run.steps_done < 500:
        run.update()
    began, start = run.steps_done, clock()
    while run.steps_done < began + steps:
        run.update()
    print((run.steps_done - began) / (clock() - start))
"""

PEER = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
from stable_baselines3 import SAC

clock = time.process_time if sys.argv[2] == "cpu" else time.perf_counter
steps = int(sys.argv[3])
model = SAC("MlpPolicy", "HalfCheetah-v5", device=sys.argv[4], learning_starts=200)
model.learn(500)
start = clock()
model.learn(steps, reset_num_timesteps=False)
print(steps / (clock() - start))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has stable_baselines3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1_024)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where both learn")
    given = parser.parse_args()
    runs = [("velodrome", sys.executable, OURS), *([("Stable-Baselines3", given.peer, PEER)] if given.peer else [])]
    speeds: dict[tuple[str, int], list[float]] = {}
    for _ in range(given.rounds):
        for threads in given.threads:
            for name, python, code in runs:
                clock = "cpu" if given.cpu_time else "wall"
                speed = steps_per_second(python, code, threads, threads, clock, given.steps, given.device)
                speeds.setdefault((name, threads), []).append(speed)
    print_speeds("threads", speeds)
    if given.peer:
        ours, theirs = (max(statistics.median(f) for (n, _), f in speeds.items() if n == name) for name, *_ in runs)
        print(f"the better of each: {ours / theirs:.2f} times Stable-Baselines3")


if __name__ == "__main__":
    main()
