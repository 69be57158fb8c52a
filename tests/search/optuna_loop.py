"""An Optuna sampler in a loop such as the controller's, and a history that can be rebuilt from its log."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from velodrome.search.domains import Choice, Domain, Float, Int
from velodrome.search.history import History
from velodrome.search.optuna_samplers import KINDS
from velodrome.search.sampler import Sampler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import FailureClass, Goal, Params, Suggestion, TrialState

MOSTLY_QUICK = pytest.mark.parametrize(
    "kind", [*(kind for kind in KINDS if kind != "gp"), pytest.param("gp", marks=pytest.mark.slow)]
)
SMALL = {
    "tpe": {}, "gp": {"n_startup_trials": 4}, "cmaes": {"popsize": 5}, "nsga2": {"population_size": 6},
}
LOSS = Goal.parse("minimize loss")
TOY = Space(
    x=Float(-5, 5), y=Float(-5, 5), width=Int(8, 512, log=True),
    opt=Choice("sgd", adam={"beta": Float(0, 1), "eps": Float(1e-9, 1e-3, log=True)}),
)


def toy(params: Params) -> float:
    """A quadratic with its minimum, 0, inside the branch of a choice."""
    inside = (params["opt.beta"] - 0.3) ** 2 if params["opt"] == "adam" else 2.0
    return (params["x"] - 2) ** 2 + (params["y"] + 1) ** 2 + inside + abs(math.log2(params["width"]) - 6) / 4


@dataclass
class Loop:
    """What a controller does with a sampler, and a log from which the history can be rebuilt."""

    space: Space
    goal: Goal = LOSS
    seed: int = 0
    log: list[tuple] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        self.history = History(self.space, self.goal)

    def note(self, method: str, *args: object) -> None:
        self.log.append((method, args))
        getattr(self.history, method)(*args)

    def suggestion(self, sampler: Sampler) -> Suggestion:
        return sampler.suggest(self.number, self.history, generator(self.seed, "suggest", self.number))

    def start(self, sampler: Sampler) -> int:
        suggestion = self.suggestion(sampler)
        self.note("start", self.number, Suggestion(suggestion.params, json.loads(json.dumps(suggestion.attrs))))
        self.number += 1
        return self.number - 1

    def ask_param(self, sampler: Sampler, number: int, name: str, domain: Domain):
        rng = generator(self.seed, "suggest", number, name)
        value = sampler.suggest_param(number, name, domain, self.history, rng)
        self.note("add_param", number, name, domain, value)
        return value

    def complete(self, number: int, *values: float) -> None:
        self.note("finish", number, TrialState.COMPLETED, values)

    def run(self, sampler: Sampler, objective: Callable[[Params], float], trials: int) -> float:
        for _ in range(trials):
            number = self.start(sampler)
            self.complete(number, objective(self.history.running[number].params))
        return float(np.min(self.history.values))

    def rebuilt(self) -> "Loop":
        other = Loop(self.space, self.goal, self.seed)
        for method, args in self.log:
            other.note(method, *args)
        other.number = self.number
        return other


def finish_somehow(loop: Loop, number: int, value: float) -> None:
    """Ends a trial in one of all the ways a trial can end."""
    match number % 9:
        case 3:
            loop.note("finish", number, TrialState.PRUNED, (value + 1,), 4)
        case 4:
            loop.note("finish", number, TrialState.PRUNED, None)
        case 5:
            loop.note("finish", number, TrialState.FAILED, None, None, FailureClass.OOM)
        case 6:
            loop.note("finish", number, TrialState.FAILED, (math.nan,), 2, FailureClass.DIVERGED)
        case 7:
            loop.note("finish", number, TrialState.FAILED, None, None, FailureClass.USER)
        case _:
            loop.complete(number, value)
