"""Weight sharing, predictor, evolution and random search at equal training cost, on Fashion-MNIST.

    apt-get install dataset-fashion-mnist        # or unpack the package somewhere and name that folder
    python benchmarks/weight_sharing.py --data /usr/share/datasets/fashion-mnist --seeds 3
    python benchmarks/weight_sharing.py --data /usr/share/datasets/fashion-mnist --tau 30

A net is a stem, two cells with a pool between, and a classifier, on images of 14x14 (the mean of each 2x2), trained
on 2,000 of them for three epochs; the cell is searched, with five operators on each of its edges. Cost is counted in
examples times the FLOPs of the net that is trained on them; the budget is that of ``--nets`` nets of average size. A
method trains until it is spent. Weight sharing pays for its supernet, at each step one path, with ``--share`` of it,
judges 40 candidates after a few steps of tuning each, and has the rest for its winners, which begin with fresh
weights or with those that they inherit. What a method found is its best net by 2,000 images: the accuracy of that
very net on 5,000 others, and of the same architecture trained anew. Kendall's tau is that of inherited against stand-
alone accuracy (the mean of two trainings) over random cells.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import nn

import velodrome as velo
from velodrome.search.history import History
from velodrome.search.registry import make_sampler
from velodrome.search.sampler import Exhausted
from velodrome.seeding import derive, generator
from velodrome.types import Goal, Params, TrialState

EPOCHS, BATCH_SIZE, RATE = 3, 64, 0.004
TUNE_STEPS, TUNE_RATE = 16, 0.01
"""How a candidate is tuned before it is judged."""
CELL = velo.Cell("zero", "skip", "conv1x1", "conv3x3", "avg3x3", nodes=3)
SPACE = velo.Space(net=velo.Net(
    (1, 14, 14), stem=velo.Block("conv", width=8),
    body=velo.Repeat(CELL, times=2, shared=True, between=velo.Block("pool", stride=2)),
    head=velo.Block("classifier", classes=10),
))
GOAL = Goal.parse("maximize accuracy")
Data = dict[str, tuple[torch.Tensor, torch.Tensor]]


def fashion(folder: Path, train: int = 2000, val: int = 2000, test: int = 5000) -> Data:
    """Images [n, 1, 14, 14] and labels, to train on, to choose by, and to report on."""
    def read(name: str, skip: int) -> torch.Tensor:
        path = next(folder.glob(f"{name}*"))
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return torch.frombuffer(bytearray(raw[skip:]), dtype=torch.uint8)

    def images(name: str) -> torch.Tensor:
        whole = read(f"{name}-images", 16).view(-1, 1, 28, 28).float() / 255
        return (nn.functional.avg_pool2d(whole, 2) - 0.286) / 0.31

    x, y = images("train"), read("train-labels", 8).long()
    x_test, y_test = images("t10k")[:test], read("t10k-labels", 8).long()[:test]
    return {"train": (x[:train], y[:train]), "val": (x[train:train + val], y[train:train + val]),
            "test": (x_test, y_test)}


class Budget:
    """Training cost, in examples times FLOPs of the net.

    Args:
        nets: How many nets of average size can be trained alone.
        examples: In an epoch.
    """

    def __init__(self, nets: float, examples: int) -> None:
        rng = np.random.default_rng(0)
        average = float(np.mean([flops_of(SPACE.sample(rng)) for _ in range(200)]))
        self.left = self.whole = nets * EPOCHS * examples * average

    def spend(self, params: Params, examples: int) -> None:
        """Takes what it costs to train the net of a configuration on so many examples."""
        self.left -= flops_of(params) * examples


def flops_of(params: Params) -> int:
    """Of a net, for one example."""
    return SPACE.graph(params).total().flops


def fit(net: nn.Module, data: Data, seed: int) -> None:
    """Trains one net alone."""
    x, y = data["train"]
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=EPOCHS * -(-len(x) // BATCH_SIZE))
    net.train()
    for batch in batches(len(x), EPOCHS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()
        schedule.step()


def batches(examples: int, epochs: int) -> Iterator[torch.Tensor]:
    """The examples of each step."""
    for _ in range(epochs):
        yield from torch.randperm(examples).split(BATCH_SIZE)


def accuracy(net: nn.Module, part: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Of a net as it is: in evaluation, or with the statistics of each batch."""
    with torch.no_grad():
        right = [net(x).argmax(1) == y for x, y in zip(part[0].split(500), part[1].split(500), strict=True)]
    return torch.cat(right).double().mean().item()


class Trained(NamedTuple):
    """A net that was trained by itself."""

    params: Params
    val: float
    """Its accuracy to choose by."""
    test: float


def alone(params: Params, data: Data, seed: int, net: nn.Module | None = None) -> Trained:
    """Trains the net of a configuration, or one that has weights already, by itself."""
    torch.manual_seed(seed)
    net = SPACE.build(params) if net is None else net
    fit(net, data, seed)
    return Trained(params, accuracy(net.eval(), data["val"]), accuracy(net, data["test"]))


def supernet_of(data: Data, budget: Budget, seed: int) -> velo.Supernet:
    """Shared weights, trained until the budget is spent: at each step one path, of fair rounds."""
    torch.manual_seed(seed)
    supernet, rng = velo.Supernet(SPACE, seed=seed), np.random.default_rng(seed)
    x, y = data["train"]
    optimizer = torch.optim.AdamW(supernet.parameters(), lr=RATE)
    steps = batches(len(x), 1_000_000)
    while budget.left > 0:
        for params in velo.fair_paths(SPACE, rng):
            for group in optimizer.param_groups:
                group["lr"] = RATE * part_of_rate(1 - budget.left / budget.whole)
            batch = next(steps)
            optimizer.zero_grad()
            nn.functional.cross_entropy(supernet.net(params).train()(x[batch]), y[batch]).backward()
            optimizer.step()
            budget.spend(params, len(batch))
    return supernet


def part_of_rate(done: float) -> float:
    """The learning rate's part of its highest when so much of the budget is spent: a short warm-up, then a cosine."""
    return min(1.0, 0.01 + 10 * done) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def inherited(supernet: velo.Supernet, params: Params, data: Data) -> float:
    """The accuracy of a net with its inherited weights, after a few steps that let them get used to each other."""
    net = copy.deepcopy(supernet.net(params)).train()
    x, y = data["train"]
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=TUNE_RATE)
    for step, batch in enumerate(islice(batches(len(x), EPOCHS), TUNE_STEPS)):
        optimizer.param_groups[0]["lr"] = TUNE_RATE * (1 - step / TUNE_STEPS)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()
    return accuracy(velo.use_batch_statistics(net), data["val"])


def search(sampler: str, value: Callable[[Params], float], space: velo.Space, budget: Budget, seed: int) -> None:
    """Runs a sampler over a study by hand until the budget is spent, or all winners are trained."""
    made, history, number = make_sampler(sampler, seed=seed), History(space, GOAL), 0
    with suppress(Exhausted):
        while budget.left > 0:
            suggestion = made.suggest(number, history, generator(seed, "suggest", number))
            history.start(number, suggestion)
            history.finish(number, TrialState.COMPLETED, (value(suggestion.params),))
            number += 1


def by_sharing(
    data: Data, nets: int, share: float, seed: int, *, inherits: bool = False, how: str = "candidates=40"
) -> Trained:
    """The winner of weight sharing; winners begin with fresh weights, or with those that they inherit."""
    examples = len(data["train"][0])
    budget, supernet, found = Budget(nets * (1 - share), examples), list[velo.Supernet](), list[Trained]()

    def value(params: Params) -> float:
        if params["stage"] == "supernet":
            supernet.append(supernet_of(data, Budget(nets * share, examples), seed))
            return 0.0
        net = velo.unstaged(params)
        if params["stage"] == "inherited":
            budget.spend(net, TUNE_STEPS * BATCH_SIZE)
            return inherited(supernet[0], net, data)
        budget.spend(net, EPOCHS * examples)
        found.append(alone(net, data, seed, copy.deepcopy(supernet[0].net(net)) if inherits else None))
        return found[-1].val

    search(f"sharing:winners=40,{how}", value, velo.staged(SPACE), budget, seed)
    return max(found, key=lambda net: net.val)


def by_sampler(sampler: str, data: Data, nets: int, seed: int) -> Trained:
    """The winner of a sampler that trains every net alone."""
    examples = len(data["train"][0])
    budget, found = Budget(nets, examples), list[Trained]()

    def value(params: Params) -> float:
        budget.spend(params, EPOCHS * examples)
        found.append(alone(params, data, seed))
        return found[-1].val

    search(sampler, value, SPACE, budget, seed)
    return max(found, key=lambda net: net.val)


def tau(data: Data, nets: int, share: float, count: int) -> None:
    """Prints Kendall's tau over so many random cells, and what two trainings alone agree among themselves."""
    supernet, rng = supernet_of(data, Budget(nets * share, len(data["train"][0])), 0), np.random.default_rng(1)
    cells = [SPACE.sample(rng) for _ in range(count)]
    judged = [inherited(supernet, params, data) for params in cells]
    trained = np.array([[alone(params, data, seed).val for seed in (0, 1)] for params in cells])
    print(f"Kendall's tau over {count} random cells: {kendalltau(judged, trained.mean(1))[0]:.3f}; "
          f"of two trainings alone with each other: {kendalltau(trained[:, 0], trained[:, 1])[0]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--nets", type=int, default=20, help="the budget: nets trained alone")
    parser.add_argument("--share", type=float, default=0.25, help="the supernet's part of the budget")
    parser.add_argument("--methods", help="with ; between", default="random;evolution;predictor;warm predictor;"
                        "weight sharing;warm sharing;inheriting")
    parser.add_argument("--again", type=int, default=2, help="how often a winner is trained anew, with other seeds")
    parser.add_argument("--tau", type=int, metavar="N", help="only Kendall's tau, over N random cells")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = fashion(args.data)
    if args.tau:
        tau(data, args.nets, args.share, args.tau)
        return
    methods: dict[str, Callable[[int], Trained]] = {
        "random": lambda seed: by_sampler("random", data, args.nets, seed),
        "evolution": lambda seed: by_sampler("evolution:population=8,sample=4", data, args.nets, seed),
        "predictor": lambda seed: by_sampler("predictor:start=8", data, args.nets, seed),
        "warm predictor": lambda seed: by_sampler("predictor:start=8,warm=synflow,pool=300", data, args.nets, seed),
        "weight sharing": lambda seed: by_sharing(data, args.nets, args.share, seed),
        "warm sharing": lambda seed: by_sharing(
            data, args.nets, args.share, seed, how="candidates=12,warm=synflow,pool=300"),
        "inheriting": lambda seed: by_sharing(data, args.nets, args.share, seed, inherits=True),
    }
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name in args.methods.split(";"):
            began = time.process_time()
            winner = methods[name](seed)
            seconds = time.process_time() - began
            again = [alone(winner.params, data, derive(seed, "test", i) % 2**31).test for i in range(args.again)]
            print(f"seed {seed}  {name:15} test accuracy {winner.test:.4f}, trained again {np.mean(again):.4f}  "
                  f"{seconds:6.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()
