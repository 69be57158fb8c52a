"""The loop around learners with a replay buffer."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from velodrome.envs import adapter
from velodrome.envs.adapter import make_envs
from velodrome.rl.algorithms import ALGORITHMS, learns_meanwhile, read_params
from velodrome.rl.dqn import learning


class Dot(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, **_: Any) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 1.0, False, False, {}


def noting(order: list[str], name: str, call: Any) -> Any:
    def noted(*args: Any, **more: Any) -> Any:
        order.append(name)
        return call(*args, **more)

    return noted


def test_the_learner_learns_while_the_environments_step(monkeypatch: pytest.MonkeyPatch) -> None:
    _, config = read_params({"algo": "dqn", "env": "", "steps": 40, "num_envs": 1, "learning_starts": 8,
                             "batch_size": 4, "updates_per_step": 2.0, "width": 8})
    with make_envs(Dot, 1, mode="sync") as envs:
        run = learning(envs, config, steps=40, seed=1)
        order: list[str] = []
        for of, name in ((envs, "send"), (envs, "receive"), (run.learner, "update")):
            monkeypatch.setattr(of, name, noting(order, name, getattr(of, name)))
        run.update()
    assert order[:16] == ["send", "receive"] * 8
    assert order[16:22] == ["send", "receive", "send", "update", "update", "receive"]
    # The updates of the last step come after it: as many as asked for.
    assert order[-3:] == ["receive", "update", "update"]
    assert run.learner.updates_done == 2 * (40 - 8)


def test_one_slow_environment_gets_a_process_where_there_is_something_to_do_meanwhile(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "num_cores", lambda: 2)
    monkeypatch.setattr(adapter, "step_time_s", lambda env: 1e-3)
    with make_envs(Dot, 1) as alone, make_envs(Dot, 1, learns_meanwhile=True) as overlapped:
        assert "in this process" in alone.source
        assert "1 worker" in overlapped.source
    assert [algo for algo in ALGORITHMS if learns_meanwhile(algo)] == ["dqn", "sac", "crossq", "td7"]
