"""The machine code on disk: found again, never stale, shared by processes; and none where nothing can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import velodrome.envs.simulators.kernel as kernel_module

FOLDER = Path(kernel_module.__file__).parent
HELPER = "from {package}.kernel import kernel\n\n\n@kernel\ndef helper(x: float) -> float:\n    return x + {number}\n"
USER = (
    "from {package}.helper import helper\nfrom {package}.kernel import kernel\n\n\n"
    "@kernel\ndef user(x):\n    return helper(x)\n"
)
CALL = "from copied.user import user; print(user(1.0), user.stats.cache_hits)"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A package with ``kernel.py`` and two kernels, one of which calls the other from another file."""
    package = tmp_path / "copied"
    package.mkdir()
    shutil.copy(FOLDER / "kernel.py", package)
    (package / "__init__.py").touch()
    (package / "helper.py").write_text(HELPER.format(package="copied", number=1))
    (package / "user.py").write_text(USER.format(package="copied"))
    return package


DIGEST = """
import hashlib
import numpy as np
from velodrome.envs.simulators.vector_env import SimVectorEnv
digest = hashlib.sha256()
for name in ("CartPole-v1", "Acrobot-v1", "MountainCarContinuous-v0", "Pendulum-v1"):
    envs = SimVectorEnv(name, 37, max_episode_steps=90)
    envs.reset(seed=1)
    envs.action_space.seed(1)
    for _ in range(200):
        envs.step(envs.action_space.sample())
        digest.update(envs.get_state()["state"].tobytes() + envs.buffers.obs.tobytes() + envs.buffers.reward.tobytes())
print(digest.hexdigest())
"""


def start(package: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CALL], cwd=package.parent, env=os.environ | {"NUMBA_CACHE_DIR": ""} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )


def call(package: Path, **environment: str) -> tuple[str, str]:
    """What the kernel of a new process gives, and how often it found its code."""
    out, err = start(package, **environment).communicate()
    assert not err, err
    value, hits = out.strip().split(" ", 1)
    return value, "hit" if ": 1" in hits else "miss"


def test_code_is_found_again_until_any_source_changes(copied: Path) -> None:
    assert call(copied) == ("2.0", "miss")
    assert call(copied) == ("2.0", "hit")
    (copied / "helper.py").write_text(HELPER.format(package="copied", number=5))
    assert call(copied) == ("6.0", "miss")
    assert call(copied) == ("6.0", "hit")


def test_processes_that_compile_at_once_agree(copied: Path) -> None:
    processes = [start(copied) for _ in range(4)]
    answers = [process.communicate() for process in processes]
    assert all(not err and out.startswith("2.0") for out, err in answers), answers
    assert call(copied) == ("2.0", "hit")


def test_where_nothing_can_be_written_it_compiles(copied: Path, tmp_path: Path) -> None:
    """Neither beside the source nor at home: both are files where a folder would have to be."""
    (copied / "__pycache__").touch()
    home = tmp_path / "home"
    home.touch()
    quiet = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    assert call(copied, **quiet) == ("2.0", "miss")
    assert call(copied, **quiet) == ("2.0", "miss")


@pytest.mark.slow
def test_a_processor_without_vectors_gives_the_same_bits(tmp_path: Path) -> None:
    """Compiled for the oldest processor of this kind, which has no AVX and no fused operations, against this one."""
    digests = []
    for environment in ({}, {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)}):
        command = [sys.executable, "-c", DIGEST]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
        assert not done.stderr, done.stderr
        digests.append(done.stdout)
    assert digests[0] == digests[1] != ""
