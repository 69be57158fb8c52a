"""velodrome: search spaces in Python, sweeps from the command line, reinforcement learning, results you can query.

    import velodrome as velo

    space = velo.Space(lr=velo.Float(1e-5, 1e-1, log=True), width=velo.Int(16, 256, log=True))

    def train(trial):
        ...
        trial.report(epoch, accuracy=accuracy)
        return accuracy

    study = velo.sweep(train, space, trials=50, goal="maximize accuracy")
    print(study.best.params)

Names are loaded when they are first used: importing velodrome imports neither torch nor anything else that is heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from velodrome.agents import load_agent, play
    from velodrome.api import create_study, load_study, open_store, resume, sweep, train
    from velodrome.errors import Diverged, Interrupted, Pruned, VeloError
    from velodrome.replicates import Replicates
    from velodrome.results import TrialResult
    from velodrome.search.arch.cell import Cell
    from velodrome.search.arch.known import darts_cell, nas201_cell, nas201_net
    from velodrome.search.arch.net import Net
    from velodrome.search.arch.operators import register_op
    from velodrome.search.arch.parts import Block, Chain, Either
    from velodrome.search.arch.proxies import zero_cost
    from velodrome.search.arch.repeat import Repeat, Residual
    from velodrome.search.arch.stages import staged, unstaged
    from velodrome.search.arch.supernet import Supernet, fair_paths, use_batch_statistics
    from velodrome.search.constraints import Constraint
    from velodrome.search.domains import Choice, Float, Int
    from velodrome.search.space import Space
    from velodrome.simulate import Simulation, simulate
    from velodrome.study import Study
    from velodrome.trials.context import Trial
    from velodrome.trials.objective import objective
    from velodrome.trials.optimizers import SGD, Adam, AdamW, Cosine, Linear, RMSprop, StepDecay
    from velodrome.trials.training_job import Data, TrainingJob

__version__ = "0.1.0"

_HOMES = {
    "velodrome.agents": ("load_agent", "play"),
    "velodrome.api": ("create_study", "load_study", "open_store", "resume", "sweep", "train"),
    "velodrome.errors": ("Diverged", "Interrupted", "Pruned", "VeloError"),
    "velodrome.replicates": ("Replicates",),
    "velodrome.results": ("TrialResult",),
    "velodrome.search.arch.cell": ("Cell",),
    "velodrome.search.arch.known": ("darts_cell", "nas201_cell", "nas201_net"),
    "velodrome.search.arch.net": ("Net",),
    "velodrome.search.arch.operators": ("register_op",),
    "velodrome.search.arch.proxies": ("zero_cost",),
    "velodrome.search.arch.parts": ("Block", "Chain", "Either"),
    "velodrome.search.arch.repeat": ("Repeat", "Residual"),
    "velodrome.search.arch.stages": ("staged", "unstaged"),
    "velodrome.search.arch.supernet": ("Supernet", "fair_paths", "use_batch_statistics"),
    "velodrome.search.constraints": ("Constraint",),
    "velodrome.search.domains": ("Choice", "Float", "Int"),
    "velodrome.search.space": ("Space",),
    "velodrome.simulate": ("Simulation", "simulate"),
    "velodrome.study": ("Study",),
    "velodrome.trials.context": ("Trial",),
    "velodrome.trials.objective": ("objective",),
    "velodrome.trials.optimizers": ("SGD", "Adam", "AdamW", "Cosine", "Linear", "RMSprop", "StepDecay"),
    "velodrome.trials.training_job": ("Data", "TrainingJob"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Adam", "AdamW", "Block", "Cell", "Chain", "Choice", "Constraint", "Cosine", "Data", "Diverged", "Either",
    "Float", "Int", "Interrupted", "Linear", "Net", "Pruned", "RMSprop", "Repeat", "Replicates", "Residual", "SGD",
    "Simulation", "Space", "StepDecay", "Study", "Supernet", "TrainingJob", "Trial", "TrialResult", "VeloError",
    "create_study", "darts_cell", "fair_paths", "load_agent", "load_study", "nas201_cell", "nas201_net",
    "objective", "open_store", "play", "register_op", "resume", "simulate", "staged", "sweep", "train", "unstaged",
    "use_batch_statistics", "zero_cost",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'velodrome' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
