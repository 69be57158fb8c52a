"""What a trial costs on a local Ray, with Ray Tune in the same run.

    python -m venv /tmp/tune && /tmp/tune/bin/pip install "ray[tune]"
    python benchmarks/ray_executor.py --peer /tmp/tune/bin/python

An objective that does nothing, ten mixed parameters, random search, two workers, each run in a process of its own and
in turn with the peer's. Ray Tune is at its best settings: its actors reused, no output, no checkpoints, no dashboard.
Memory is the proportional share (PSS) of every process of a run, looked at twice a second; the highest counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
FIGURES = {
    "rate": "trials/s, first to last", "overall": "trials/s, start and end of everything included",
    "first_s": "seconds to the first result", "memory_mib": "memory of all processes, MiB",
}

TUNE = '''
import json, logging, os, sys, time
started_at = float(sys.argv[2])
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
import ray
from ray import tune
from ray.tune import Callback, RunConfig, TuneConfig, Tuner

class Watch(Callback):
    ends = []
    def on_trial_complete(self, iteration, trials, trial, **info):
        self.ends.append(time.time())

class Noop(tune.Trainable):
    def step(self):
        return {"value": 0.0, "done": True}
    def reset_config(self, config):
        return True
    def save_checkpoint(self, folder):
        return None
    def load_checkpoint(self, state):
        pass

space = {f"x{i}": tune.uniform(0, 1) for i in range(4)}
space |= {f"lr{i}": tune.loguniform(1e-5, 1e-1) for i in range(2)}
space |= {f"n{i}": tune.randint(1, 100) for i in range(2)}
space |= {f"c{i}": tune.choice(["a", "b", "c"]) for i in range(2)}
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
watch = Watch()
Tuner(
    Noop, param_space=space,
    tune_config=TuneConfig(num_samples=int(sys.argv[1]), reuse_actors=True),
    run_config=RunConfig(verbose=0, callbacks=[watch], storage_path=os.getcwd()),
).fit()
ends = watch.ends
rate = (len(ends) - 1) / (ends[-1] - ends[0])
print(json.dumps({"trials": len(ends), "first_s": ends[0] - started_at, "rate": rate}))
'''

OURS = '''
import json, sys
sys.path.insert(0, sys.argv[3])
import velodrome as velo
from objectives import SPACE
started_at = float(sys.argv[2])
study = velo.sweep(
    sys.argv[3] + "/objectives.py:noop", SPACE, trials=int(sys.argv[1]), sampler="random", seed=1, store="v.db",
    executor="ray", workers=2, progress=False,
)
ends = sorted(row["finished_at"] for row in study.query("select finished_at from trials where state = 'completed'"))
rate = (len(ends) - 1) / (ends[-1] - ends[0])
print(json.dumps({"trials": len(ends), "first_s": ends[0] - started_at, "rate": rate}))
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="a Python with ray[tune]; without it only ours is measured")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3, help="rounds; the median is shown, with lowest and highest")
    args = parser.parse_args()
    systems = {"velodrome": (sys.executable, OURS)}
    if args.peer:
        systems["Ray Tune"] = (args.peer, TUNE)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    for _ in range(args.repeat):
        for name, (python, code) in systems.items():
            runs[name].append(measure(python, code, args.trials))
    print(f"{args.trials} no-op trials, 2 workers, medians of {args.repeat} (lowest to highest)\n")
    print("| | " + " | ".join(systems) + " |\n|---|" + "---|" * len(systems))
    for key, label in FIGURES.items():
        print(f"| {label} | " + " | ".join(_shown([run[key] for run in of]) for of in runs.values()) + " |")


def measure(python: str, code: str, trials: int) -> dict[str, float]:
    """One run: trials/s, seconds to the first result, and the most memory that its processes had."""
    with tempfile.TemporaryDirectory() as folder:
        started_at = time.time()
        process = subprocess.Popen(
            [python, "-c", code, str(trials), str(started_at), str(HERE)], cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        peak_bytes = 0
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _pss_bytes(process.pid))
            time.sleep(0.5)
        wall_s = time.time() - started_at
        out, err = process.communicate()
        if process.returncode:
            raise SystemExit(err)
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert result["trials"] == trials, result
    return {**result, "overall": trials / wall_s, "memory_mib": peak_bytes / 2**20}


def _pss_bytes(pid: int) -> int:
    """The proportional memory of a process and of all below it."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except (psutil.Error, OSError):
            continue
    return total


def _shown(values: list[float]) -> str:
    digits = 0 if statistics.median(values) >= 20 else 1
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


if __name__ == "__main__":
    main()
