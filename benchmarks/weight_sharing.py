"""Weight sharing, evolution and random search at equal training cost, on Fashion-MNIST.

    apt-get install dataset-fashion-mnist        # or unpack the package somewhere and name that folder
    python benchmarks/weight_sharing.py --data /usr/share/datasets/fashion-mnist --seeds 3

A net is a stem, two cells with a pool between, and a classifier, on images of 14x14 (the mean of each 2x2), trained on
2,000 of them for three epochs; the cell is searched, with five operators on each of its edges. The budget is counted
in nets trained for one epoch. Random search and evolution train ``--nets`` nets alone. Weight sharing pays for its
supernet (each epoch trains five paths), judges 60 candidates, which trains nothing, and has the rest for its winners.
What a method found is the winner's accuracy on 5,000 images that nobody saw, the mean of three trainings. Kendall's tau
is that of inherited against stand-alone accuracy over random cells.
"""

from __future__ import annotations

import argparse
import gzip
import time
from collections.abc import Callable
from pathlib import Path

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

EPOCHS, BATCH_SIZE, PATHS = 3, 64, 5
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


def fit(net: nn.Module, data: Data, seed: int) -> None:
    """Trains one net alone."""
    x, y = data["train"]
    torch.manual_seed(seed)
    steps = EPOCHS * -(-len(x) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=steps)
    net.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()


def accuracy(net: nn.Module, part: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Of a net as it is: in evaluation, or with the statistics of each batch."""
    with torch.no_grad():
        right = [net(x).argmax(1) == y for x, y in zip(part[0].split(500), part[1].split(500), strict=True)]
    return torch.cat(right).double().mean().item()


def alone(params: Params, data: Data, seed: int, part: str = "val") -> float:
    """The accuracy of a net that is trained alone; one without weights is not trained."""
    torch.manual_seed(seed)
    net = SPACE.build(params)
    fit(net, data, seed)
    return accuracy(net.eval(), data[part])


def supernet_of(data: Data, epochs: int, seed: int) -> velo.Supernet:
    """Shared weights, trained by fair single paths."""
    torch.manual_seed(seed)
    supernet, rng = velo.Supernet(SPACE, seed=seed), np.random.default_rng(seed)
    x, y = data["train"]
    optimizer = torch.optim.AdamW(supernet.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=epochs * -(-len(x) // BATCH_SIZE))
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH_SIZE):
            optimizer.zero_grad()
            for params in velo.fair_paths(SPACE, rng):
                nn.functional.cross_entropy(supernet.net(params).train()(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return supernet


def search(sampler: str, value: Callable[[Params], float], space: velo.Space, trials: int, seed: int) -> History:
    """Runs a sampler over a study by hand."""
    made, history = make_sampler(sampler, seed=seed), History(space, GOAL)
    for number in range(trials):
        try:
            suggestion = made.suggest(number, history, generator(seed, "suggest", number))
        except Exhausted:
            break
        history.start(number, suggestion)
        history.finish(number, TrialState.COMPLETED, (value(suggestion.params),))
    return history


def by_sharing(data: Data, nets: int, epochs: int, seed: int) -> Params:
    """The winner of weight sharing, at the cost of so many nets trained alone."""
    supernet: list[velo.Supernet] = []

    def value(params: Params) -> float:
        if params["stage"] == "supernet":
            supernet.append(supernet_of(data, epochs, seed))
            return 0.0
        if params["stage"] == "inherited":
            return accuracy(velo.use_batch_statistics(supernet[0].net(velo.unstaged(params))), data["val"])
        return alone(velo.unstaged(params), data, seed)

    winners = nets - epochs * PATHS // EPOCHS
    history = search(f"sharing:candidates=60,winners={winners}", value, velo.staged(SPACE), 1 + 60 + winners, seed)
    done = [(t.values[0], t.params) for t in history.finished() if t.params["stage"] == "alone" and t.values]
    return velo.unstaged(max(done, key=lambda pair: pair[0])[1])


def by_sampler(sampler: str, data: Data, nets: int, seed: int) -> Params:
    """The winner of a sampler that trains every net alone."""
    history = search(sampler, lambda params: alone(params, data, seed), SPACE, nets, seed)
    return max(((t.values[0], t.params) for t in history.finished() if t.values), key=lambda pair: pair[0])[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--nets", type=int, default=20, help="the budget: nets trained alone")
    parser.add_argument("--epochs", type=int, default=6, help="of the supernet")
    parser.add_argument("--methods", default="random,evolution,predictor,weight sharing")
    parser.add_argument("--tau", type=int, metavar="N", help="only Kendall's tau, over N random cells")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = fashion(args.data)
    if args.tau:
        supernet, rng = supernet_of(data, args.epochs, 0), np.random.default_rng(1)
        cells = [SPACE.sample(rng) for _ in range(args.tau)]
        inherited = [accuracy(velo.use_batch_statistics(supernet.net(params)), data["val"]) for params in cells]
        trained = [alone(params, data, 0) for params in cells]
        print(f"Kendall's tau over {args.tau} random cells: {kendalltau(inherited, trained)[0]:.3f}")
        return
    methods: dict[str, Callable[[int], Params]] = {
        "random": lambda seed: by_sampler("random", data, args.nets, seed),
        "evolution": lambda seed: by_sampler("evolution:population=8,sample=4", data, args.nets, seed),
        "predictor": lambda seed: by_sampler("predictor:start=8", data, args.nets, seed),
        "weight sharing": lambda seed: by_sharing(data, args.nets, args.epochs, seed),
    }
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name in args.methods.split(","):
            began = time.process_time()
            winner = methods[name](seed)
            seconds = time.process_time() - began
            figures = [alone(winner, data, derive(seed, "test", i) % 2**31, "test") for i in range(3)]
            print(f"seed {seed}  {name:15} test accuracy {np.mean(figures):.4f}  {seconds:6.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()
