"""TPE through the bridge against Optuna's own in-memory study: ask + suggest + tell on 10 mixed parameters.

Both start from the same random history and take turns in one run, for the machine's load changes by the minute.

    python benchmarks/tpe_bridge.py [--finished 100 1000 5000] [--trials 30]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import optuna

from velodrome.search.domains import Choice, Float, Int
from velodrome.search.history import History
from velodrome.search.optuna_bridge import OptunaSampler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import Goal, Params, Suggestion, TrialState

SPACE = Space(
    lr=Float(1e-5, 1e-1, log=True), decay=Float(1e-6, 1e-2, log=True), momentum=Float(0.0, 0.99),
    dropout=Float(0.0, 0.5, step=0.1), width=Int(16, 1024, log=True), depth=Int(1, 8), batch=Int(32, 256, step=32),
    act=Choice("relu", "gelu", "tanh"), norm=Choice("none", "batch", "layer"), nesterov=Choice(False, True),
)


def objective(params: Params) -> float:
    return float(np.log10(params["lr"]) + 3) ** 2 + float(params["depth"]) * 0.1


def ours(finished: int) -> Callable[[], None]:
    """One round of the bridge after so many finished trials."""
    history = History(SPACE, Goal.parse("minimize loss"))
    sampler = OptunaSampler("tpe", seed=0)

    def tell(number: int, suggestion: Suggestion) -> None:
        history.start(number, suggestion)
        history.finish(number, TrialState.COMPLETED, (objective(suggestion.params),))

    for number in range(finished):
        tell(number, Suggestion(SPACE.sample(generator(0, "history", number))))

    def one_round() -> None:
        number = len(history)
        tell(number, sampler.suggest(number, history, generator(0, "suggest", number)))

    return one_round


def optunas(finished: int) -> Callable[[], None]:
    """One round of Optuna's own loop after so many finished trials."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))

    def run(trial: optuna.Trial) -> float:
        params: Params = {
            "lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True),
            "decay": trial.suggest_float("decay", 1e-6, 1e-2, log=True),
            "momentum": trial.suggest_float("momentum", 0.0, 0.99),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5, step=0.1),
            "width": trial.suggest_int("width", 16, 1024, log=True),
            "depth": trial.suggest_int("depth", 1, 8),
            "batch": trial.suggest_int("batch", 32, 256, step=32),
            "act": trial.suggest_categorical("act", ["relu", "gelu", "tanh"]),
            "norm": trial.suggest_categorical("norm", ["none", "batch", "layer"]),
            "nesterov": trial.suggest_categorical("nesterov", [False, True]),
        }
        return objective(params)

    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.optimize(run, finished)
    study.sampler = optuna.samplers.TPESampler(seed=0)

    def one_round() -> None:
        trial = study.ask()
        study.tell(trial, run(trial))

    return one_round


def main() -> None:
    """Prints the medians and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--finished", type=int, nargs="+", default=[100, 1_000, 5_000])
    parser.add_argument("--trials", type=int, default=30)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{'finished':>8} {'Optuna ms':>10} {'bridge ms':>10} {'ratio':>6}")
    for finished in options.finished:
        rounds = (optunas(finished), ours(finished))
        times: tuple[list[float], list[float]] = ([], [])
        for one_round in rounds:
            one_round()
        for _ in range(options.trials):
            for one_round, seen in zip(rounds, times, strict=True):
                start = time.perf_counter()
                one_round()
                seen.append(time.perf_counter() - start)
        theirs, mine = (1e3 * statistics.median(seen) for seen in times)
        print(f"{finished:>8} {theirs:>10.2f} {mine:>10.2f} {mine / theirs:>6.2f}")


if __name__ == "__main__":
    main()
