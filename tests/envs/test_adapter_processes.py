"""Worker processes that die, hang, or are left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import psutil
import pytest

from tests.envs import adapter_envs as user
from velodrome.envs.adapter import make_envs
from velodrome.envs.adapter_errors import EnvLostError
from velodrome.envs.env_batch import EnvBatch


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("how", "limit_s"), [("dies", 60.0), ("hangs", 0.3)])
def test_a_lost_process_is_replaced_and_its_episodes_are_truncated(tmp_path, how, limit_s, groups) -> None:
    with make_envs(
        user.Dies, 4, seed=1, mode="process", num_workers=2, groups=groups, step_timeout_s=limit_s,
        kwargs={"marker": str(tmp_path / "marker"), "how": how},
    ) as envs:
        envs.reset()
        invalid = np.zeros(4, int)
        for _ in range(12):
            step = envs.step(np.zeros(4, int))
            invalid += ~step.valid
            assert (step.truncated == ~step.valid).all()  # nothing else truncates
            assert not (step.episode_done & ~step.valid).any()
            assert (step.reward[~step.valid] == 0).all()
        assert envs.num_restarts == 1
        assert envs.num_lost_episodes == 2
        assert sorted(invalid.tolist()) == [0, 0, 1, 1]  # one row in each step that was lost, and no other


def step_often(envs: EnvBatch) -> None:
    for _ in range(10):
        envs.step(np.zeros(envs.num_envs, int))


def test_a_process_that_always_dies_is_given_up() -> None:
    with make_envs(user.AlwaysDies, 2, seed=1, mode="process", num_workers=1) as envs:
        envs.reset()
        with pytest.raises(EnvLostError, match=r"died in a step \(exit code 3\), and so did its 3 replacements"):
            step_often(envs)


def test_closing_leaves_no_process() -> None:
    envs = make_envs(user.Counter, 4, seed=1, mode="process", num_workers=2)
    pids = envs._stepper.pids
    assert all(psutil.pid_exists(pid) for pid in pids)
    envs.close()
    envs.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


ORPHANS = """
import os, sys
from velodrome.envs.adapter import make_envs
from tests.envs.adapter_envs import Dies
envs = make_envs(Dies, 2, seed=1, mode="process", num_workers=2, kwargs={"marker": sys.argv[1], "how": "hangs"})
envs.reset()
import numpy as np
print(*envs._stepper.pids, flush=True)
envs.step(np.zeros(2, int)); envs.step(np.zeros(2, int))
envs.send(np.zeros(2, int))
os._exit(9)
"""


def test_workers_end_with_the_process_that_made_them_even_in_a_step_that_hangs(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS, str(tmp_path / "marker")], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, timeout=60,
    )
    assert done.returncode == 9, done.stderr
    workers = []
    for pid in map(int, done.stdout.split()):
        try:
            workers.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    assert not psutil.wait_procs(workers, timeout=20)[1]


UNGUARDED = """
from velodrome.envs.adapter import make_envs
import gymnasium as gym, numpy as np
class Mine(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}
    def step(self, action):
        return np.ones(1, np.float32), 1.0, False, False, {}
envs = make_envs(Mine, 2, seed=1, mode="process")
envs.reset()
print(envs.step(np.zeros(2, int)).reward.tolist())
envs.close()
"""


def test_a_script_needs_no_main_guard(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[1.0, 1.0]\n"), done.stderr
