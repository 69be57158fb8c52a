"""How a run starts: without the seconds that torch's compiler takes to be imported, which no learner needs."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from tests.rl.runs import FakeTrial, params
from velodrome.rl.training import train
small = {"num_envs": 2, "width": 8, "eval_episodes": 1}
train(FakeTrial(params("CartPole-v1", 64, {**small, "num_steps": 16, "epochs": 1, "minibatches": 1}, "ppo")))
for algo, env in (("dqn", "CartPole-v1"), ("sac", "Pendulum-v1"), ("crossq", "Pendulum-v1"),
                  ("td7", "Pendulum-v1")):
    train(FakeTrial(params(env, 64, {**small, "learning_starts": 32, "batch_size": 8}, algo)))
print([name for name in ("torch._dynamo", "sympy", "ray", "optuna") if name in sys.modules])
"""


def test_no_learner_imports_what_it_does_not_need() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "[]", "each of them makes the start of every run longer"
