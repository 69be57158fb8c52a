"""Tables of learning curves from public benchmarks, for the simulations in ``schedulers.py``.

A pool is some task's configurations with a curve each, so that every system searches the same finite set:

- TaskSet (Metz et al. 2020): https://github.com/releaunifreiburg/DyHPO, folder ``data/taskset``; 1,000 optimiser
  configurations a task, 51 validation losses each, a step taken to last a second;
- LCBench (Zimmer et al. 2021) as YAHPO Gym's surrogate: https://github.com/slds-lmu/yahpo_data, folder ``lcbench``;
  1,000 random configurations a task, 52 epochs of validation cross-entropy, and the surrogate's own seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from velodrome.trials.simulated_executor import Curve
from velodrome.types import Params

LCBENCH_TASKS = ("3945", "126026", "146212", "167190")
_POOL = 1000
_EPOCHS = 52


@dataclass(frozen=True)
class Pool:
    """Curves by index: ``losses`` [n, steps], lower is better, and ``seconds`` [n, steps]. It is a ``CurveTable``."""

    name: str
    losses: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def num_steps(self) -> int:
        """The steps of a whole training."""
        return self.losses.shape[1]

    @property
    def full_s(self) -> float:
        """The mean seconds of a whole training."""
        return float(self.seconds.sum(axis=1).mean())

    def curve(self, params: Params) -> Curve:
        """The curve of the configuration ``{"index": i}``."""
        index = int(params["index"])  # type: ignore[arg-type]  # an integer of the space
        return Curve([{"loss": loss} for loss in self.losses[index].tolist()], self.seconds[index].tolist())

    def regret(self, loss: float) -> float:
        """0 for the best loss that any configuration ever reaches, 1 for the median of their best ones."""
        with np.errstate(invalid="ignore"):
            bests = np.fmin.reduce(self.losses, axis=1)
        best, median = np.nanmin(bests), np.nanmedian(bests)
        return float((loss - best) / (median - best))


def pools(data: Path) -> list[Pool]:
    """Those of TaskSet, then those of LCBench, as far as they are in the folder."""
    return [*_taskset(data / "taskset"), *_lcbench(data / "lcbench")]


def _taskset(folder: Path) -> list[Pool]:
    found = []
    for path in sorted(folder.glob("*.json")):
        losses = np.array([run["valid"]["loss"] for run in json.loads(path.read_text())], np.float64)
        found.append(Pool(f"taskset {path.stem}", losses, np.ones_like(losses)))
    return found


def _lcbench(folder: Path) -> list[Pool]:
    if not (folder / "model.onnx").exists():
        return []
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    codes = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
    space = json.loads((folder / "config_space.json").read_text())["hyperparameters"]
    return [_lcbench_task(session, task, codes[task], {h["name"]: h for h in space}) for task in LCBENCH_TASKS]


def _lcbench_task(session: Any, task: str, code: int, space: dict[str, Any]) -> Pool:
    rng = np.random.default_rng(int(task))
    names = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
    columns = [_draw(rng, space[name]) for name in names]  # in the surrogate's order, after the epoch
    inputs = np.empty((_POOL, _EPOCHS, 1 + len(names)), np.float32)
    inputs[..., 0] = np.arange(1, _EPOCHS + 1)
    inputs[..., 1:] = np.stack(columns, axis=1)[:, None]
    flat = inputs.reshape(-1, inputs.shape[-1])
    [out] = session.run(None, {"x_cat": np.full((len(flat), 1), code, np.int32), "x_cont": flat})
    time_s, loss = (out[:, column].reshape(_POOL, _EPOCHS).astype(np.float64) for column in (0, 2))
    ends_s = np.maximum.accumulate(time_s, axis=1)  # the surrogate's time is that up to the epoch, with some noise
    return Pool(f"lcbench {task}", loss, np.diff(ends_s, axis=1, prepend=0.0))


def _draw(rng: np.random.Generator, domain: dict[str, Any]) -> NDArray[np.float64]:
    low, high = domain["lower"], domain["upper"]
    if domain["type"] == "uniform_int":
        low, high = low - 0.4999, high + 0.4999
    drawn = np.exp(rng.uniform(np.log(low), np.log(high), _POOL)) if domain["log"] else rng.uniform(low, high, _POOL)
    return np.round(drawn) if domain["type"] == "uniform_int" else drawn
