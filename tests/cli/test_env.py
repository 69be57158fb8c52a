"""``velo env check``."""

from __future__ import annotations

import json

import pytest

GOOD = """
import gymnasium as gym
import numpy as np

class Walk(gym.Env):
    observation_space = gym.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, goal=3):
        self.goal = goal

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return np.array([self.at], np.float32), {}

    def step(self, action):
        print("a step")
        self.at += 1 if action else -1
        return np.array([self.at], np.float32), 1.0, abs(self.at) >= self.goal, False, {}
"""


def test_a_good_environment_is_checked_and_timed(velo, tmp_path):
    (tmp_path / "walk.py").write_text(GOOD)
    result = velo("env", "check", "walk.py:Walk", "--seconds", "0.02", "-k", "goal=2")
    assert result.exit_code == 0, result.output
    assert "ok    step" in result.stdout
    assert "a step\n" not in result.stdout  # what the environment prints is no data
    assert "steps a second" in result.stdout
    assert "use mode='" in result.stdout


def test_what_is_wrong_comes_with_its_line(velo, tmp_path):
    (tmp_path / "walk.py").write_text(GOOD.replace("abs(self.at) >= self.goal", "None"))
    result = velo("env", "check", "walk.py")
    assert result.exit_code == 1
    assert "terminated is None, a NoneType, not a bool" in result.stdout
    assert f"in: {tmp_path}/walk.py:20" in result.stdout
    assert "steps a second" not in result.stdout


def test_json(velo, tmp_path):
    (tmp_path / "walk.py").write_text(GOOD)
    result = velo("env", "check", "walk.py:Walk", "--seconds", "0", "-w", "time_limit:5", "--json")
    found = json.loads(result.stdout)
    assert (found["env"], found["ok"], found["timings"]) == ("Walk", True, [])
    assert {check["status"] for check in found["checks"]} <= {"ok", "warn"}


@pytest.mark.parametrize(("args", "said"), [
    (("CartPol-v1",), "Did you mean 'CartPole-v1'?"), (("CartPole-v1", "-k", "x"), "KEY=VALUE"),
    (("CartPole-v1", "-w", "stack"), "There is no such wrapper"), (("none.py:X",), "There is no such file"),
])
def test_what_makes_no_sense_is_refused(velo, args, said):
    result = velo("env", "check", *args)
    assert result.exit_code == 2
    assert said in result.stderr
