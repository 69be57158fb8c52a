"""CartPole-v1 to a mean return of 475 over 20 evaluation episodes: seconds of training, beside Stable-Baselines3.

    python benchmarks/cartpole_time.py --peer PYTHON        # a Python that has stable_baselines3

Ours is the preset of PPO, theirs PPO with the settings of RL-Zoo for 8 environments. Both are evaluated every 2,048
steps with the most likely actions; the evaluations' time does not count, nor that of imports. One thread each, one seed
after the other, the two taking turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

OURS = """
import sys, time
from velodrome.envs.adapter import make_envs
from velodrome.rl.algorithms import read_params, training_space
from velodrome.rl.evaluate import evaluate
from velodrome.rl.on_policy import OnPolicy
import numpy as np

seed = int(sys.argv[1])
_, config = read_params(training_space("ppo", "CartPole-v1", 100_000).sample(np.random.default_rng(0)))
with make_envs("CartPole-v1", config.num_envs) as warm:  # compiled code is loaded before the clock starts
    OnPolicy(warm, config, steps=2_048, seed=0).update()
with make_envs("CartPole-v1", 20) as arena:
    trained_s, began = 0.0, time.perf_counter()
    with make_envs("CartPole-v1", config.num_envs) as envs:
        learning = OnPolicy(envs, config, steps=100_000, seed=seed)
        looked_at = 0
        while not learning.is_done:
            learning.update()
            if learning.steps_done - looked_at >= 2_048:
                looked_at = learning.steps_done
                trained_s += time.perf_counter() - began
                reached = evaluate(learning.policy, arena, episodes=20, seed=seed).mean
                if reached >= 475:
                    break
                began = time.perf_counter()
print(trained_s, learning.steps_done, reached)
"""

PEER = """
import sys, time, torch
torch.set_num_threads(1)
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

seed = int(sys.argv[1])
arena = make_vec_env("CartPole-v1", 20, seed=10_000 + seed)
state = {"trained_s": 0.0, "began": 0.0, "at": 0, "reached": 0.0}

class Look(BaseCallback):
    def _on_step(self):
        if self.num_timesteps - state["at"] < 2_048:
            return True
        state["at"] = self.num_timesteps
        state["trained_s"] += time.perf_counter() - state["began"]
        state["reached"], _ = evaluate_policy(self.model, arena, n_eval_episodes=20, deterministic=True)
        state["began"] = time.perf_counter()
        return state["reached"] < 475

linear = lambda start: lambda left: left * start
envs = make_vec_env("CartPole-v1", 8, seed=seed)
model = PPO("MlpPolicy", envs, n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0,
            learning_rate=linear(0.001), clip_range=linear(0.2), seed=seed, device="cpu")
state["began"] = time.perf_counter()
model.learn(100_000, callback=Look())
print(state["trained_s"], model.num_timesteps, state["reached"])
"""


def measure(python: str, code: str, seed: int) -> tuple[float, int, float]:
    """Seconds, steps and the return reached, in a fresh process."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([python, "-W", "ignore", "-c", code, str(seed)], env=env, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        sys.exit(done.stderr)
    seconds, steps, reached = done.stdout.split()[-3:]
    return float(seconds), int(steps), float(reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has stable_baselines3")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    runs = [("velodrome", sys.executable, OURS), *([("Stable-Baselines3", given.peer, PEER)] if given.peer else [])]
    found: dict[str, list[tuple[float, int, float]]] = {}
    print(f"{'':20}{'seed':>6}{'seconds':>10}{'steps':>10}{'return':>10}")
    for seed in range(1, given.seeds + 1):
        for name, python, code in runs:
            result = measure(python, code, seed)
            found.setdefault(name, []).append(result)
            print(f"{name:20}{seed:>6}{result[0]:>10.2f}{result[1]:>10,}{result[2]:>10.1f}", flush=True)
    medians = {name: statistics.median(seconds for seconds, _, _ in results) for name, results in found.items()}
    for name, seconds in medians.items():
        print(f"{name:20}median {seconds:.2f} s, {sum(r >= 475 for _, _, r in found[name])} of {given.seeds} seeds")
    if given.peer:
        print(f"ours takes {medians['velodrome'] / medians['Stable-Baselines3']:.2f} of their time")


if __name__ == "__main__":
    main()
