"""PPO: environment steps per second, beside Stable-Baselines3 (and PufferLib) in the same run.

    python benchmarks/ppo_speed.py --env CartPole-v1
    python benchmarks/ppo_speed.py --env HalfCheetah-v5
    python benchmarks/ppo_speed.py --env ALE/Pong-v5

==============  ======================================================================================================
environment     settings, the same for both
==============  ======================================================================================================
CartPole-v1     64 environments, 128 steps, 4 epochs of 4 minibatches of 2,048, two hidden layers of 64 with tanh
HalfCheetah-v5  8 environments, 2,048 steps, 10 epochs of 256 minibatches of 64, two hidden layers of 64 with tanh
ALE/Pong-v5     8 environments, 128 steps, 4 epochs of 4 minibatches of 256, the Nature CNN; 4 stacked grey frames of
                84x84, 4 frames skipped, no-op starts, lost lives end episodes, rewards clipped to their sign
==============  ======================================================================================================

Everything counts from the end of a warm-up of an update on: environments, learning and episode statistics.
Stable-Baselines3 is no dependency of ours; give it an environment of its own and name its Python:

    python -m venv /tmp/sb3 && /tmp/sb3/bin/pip install stable-baselines3 "gymnasium[mujoco]" ale-py opencv-python
    python benchmarks/ppo_speed.py --peer /tmp/sb3/bin/python

On CartPole PufferLib 3 can be a second peer, with its environment in C: ``--puffer PYTHON``, a Python that has
pufferlib and its training extras. Its trainer draws sequences of 128 steps by priority where the others shuffle steps;
the network, the number and the size of gradient steps are the same.

They take turns, ``--rounds`` times each; the table has medians, so that a busy machine hits both alike. The peer's
environments run in its own process, as its documentation has it; ``--peer-processes`` adds it with worker processes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass

from turns import print_speeds, steps_per_second


@dataclass(frozen=True, slots=True)
class Case:
    """Settings of one environment; ``updates`` are timed."""

    num_envs: int
    num_steps: int
    epochs: int
    minibatches: int
    updates: int


CASES = {
    "CartPole-v1": Case(64, 128, 4, 4, updates=20),
    "HalfCheetah-v5": Case(8, 2_048, 10, 256, updates=1),
    "ALE/Pong-v5": Case(8, 128, 4, 4, updates=6),
}

HEAD = """
import sys, time, torch
env, threads, peer_processes = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "processes"
clock = time.process_time if sys.argv[4] == "cpu" else time.perf_counter
device = sys.argv[5]
num_envs, num_steps, epochs, minibatches, updates = map(int, sys.argv[6:])
"""

OURS = HEAD + """
from velodrome.envs.adapter import make_envs
from velodrome.rl.ppo_config import PPOConfig
from velodrome.rl.on_policy import OnPolicy

config = PPOConfig(num_envs=num_envs, num_steps=num_steps, epochs=epochs, minibatches=minibatches, threads=threads,
                   device=device)
with make_envs(env, num_envs, wrappers="atari" if env.startswith("ALE/") else "") as envs:
    training = OnPolicy(envs, config, steps=10**9, seed=1, device=device)
    training.update()
    start = clock()
    for _ in range(updates):
        training.update()
    print(num_envs * num_steps * updates / (clock() - start))
"""

PEER = HEAD + """
torch.set_num_threads(threads)
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack

if __name__ == "__main__":
    make = SubprocVecEnv if peer_processes else DummyVecEnv
    rows = num_envs * num_steps
    if env.startswith("ALE/"):
        import ale_py
        envs = make_atari_env(env, num_envs, env_kwargs={"frameskip": 1}, vec_env_cls=make)
        envs, policy = VecFrameStack(envs, 4), "CnnPolicy"
    else:
        envs, policy = make_vec_env(env, num_envs, vec_env_cls=make), "MlpPolicy"
    model = PPO(policy, envs, n_steps=num_steps, batch_size=rows // minibatches, n_epochs=epochs, device=device)
    model.learn(rows)
    start = clock()
    model.learn(rows * updates)
    print(rows * updates / (clock() - start))
    envs.close()
"""

PUFFER = HEAD + """
import os, types, warnings
torch.set_num_threads(threads)
import pufferlib.vector
from pufferlib import pufferl
from pufferlib.ocean.cartpole.cartpole import Cartpole
from torch import nn

class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor, self.critic = (nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
                                                 nn.Linear(64, outputs)) for outputs in (2, 1))
    def forward_eval(self, x, state=None):
        return self.actor(x), self.critic(x)
    forward = forward_eval

warnings.simplefilter("ignore")
pufferl.PuffeRL.print_dashboard = pufferl.PuffeRL.save_checkpoint = lambda self, *_, **__: None
rows = num_envs * num_steps
config = dict(
    name="", project="", data_dir="", env="", seed=1, torch_deterministic=True, cpu_offload=False, device="cpu",
    optimizer="adam", anneal_lr=True, precision="float32", total_timesteps=10**9, learning_rate=3e-4, gamma=0.99,
    gae_lambda=0.95, update_epochs=epochs, clip_coef=0.2, vf_coef=0.5, vf_clip_coef=0.2, max_grad_norm=0.5,
    ent_coef=0.0, adam_beta1=0.9, adam_beta2=0.999, adam_eps=1e-5, checkpoint_interval=10**9, batch_size="auto",
    minibatch_size=rows // minibatches, max_minibatch_size=rows, bptt_horizon=num_steps, compile=False,
    compile_mode="", compile_fullgraph=True, vtrace_rho_clip=1.0, vtrace_c_clip=1.0, prio_alpha=0.8, prio_beta0=0.2,
    use_rnn=False)
envs = pufferlib.vector.make(Cartpole, env_kwargs={"num_envs": num_envs}, backend=pufferlib.PufferEnv)
training = pufferl.PuffeRL(config, envs, Policy())
training.evaluate(); training.train()
start = clock()
for _ in range(updates):
    training.evaluate(); training.train()
print(rows * updates / (clock() - start), flush=True)
os._exit(0)
"""


def measure(python: str, code: str, env_id: str, threads: int, *words: str) -> float:
    """Steps per second, of the wall or of the process's own time, in a fresh process."""
    case = CASES[env_id]
    numbers = [case.num_envs, case.num_steps, case.epochs, case.minibatches, case.updates]
    return steps_per_second(python, code, threads, env_id, threads, *words, *numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", choices=list(CASES), default="CartPole-v1")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has stable_baselines3")
    parser.add_argument("--puffer", metavar="PYTHON", help="a Python that has pufferlib; CartPole only")
    parser.add_argument("--peer-processes", action="store_true", help="the peer with worker processes, too")
    parser.add_argument("--cpu-time", action="store_true",
                        help="steps per second of processor time, all threads together (busy machines; --threads 1)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where both learn")
    given = parser.parse_args()
    if given.cpu_time and given.device == "cuda":
        parser.error("--cpu-time does not count a GPU's time")
    if given.cpu_time and given.peer_processes:
        parser.error("--cpu-time does not count worker processes")
    if given.puffer and (given.env != "CartPole-v1" or given.device != "cpu"):
        parser.error("--puffer is for CartPole-v1 on a CPU")
    clock = "cpu" if given.cpu_time else "wall"
    runs = [("velodrome", sys.executable, OURS, "no")]
    if given.peer:
        runs.append(("Stable-Baselines3", given.peer, PEER, "no"))
    if given.peer and given.peer_processes:
        runs.append(("the same, processes", given.peer, PEER, "processes"))
    if given.puffer:
        runs.append(("PufferLib", given.puffer, PUFFER, "no"))
    speeds: dict[tuple[str, int], list[float]] = {}
    for _ in range(given.rounds):
        for threads in given.threads:
            for name, python, code, processes in runs:
                found = measure(python, code, given.env, threads, processes, clock, given.device)
                speeds.setdefault((name, threads), []).append(found)
    print_speeds("threads", speeds)
    best: dict[str, float] = {}
    for (name, _), found_all in speeds.items():
        best[name] = max(best.get(name, 0.0), statistics.median(found_all))
    for name, speed in best.items():
        if name != "velodrome":
            print(f"the best of each: {best['velodrome'] / speed:.2f} times {name}")


if __name__ == "__main__":
    main()
