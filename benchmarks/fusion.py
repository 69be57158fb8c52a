"""Training many small models: one after the other, by a pool of processes, and fused into one.

    python benchmarks/fusion.py                    # everything on the CPU, about four minutes
    python benchmarks/fusion.py --quick            # the small perceptron alone
    python benchmarks/fusion.py --device cuda      # on a GPU; the pool is then processes that share it

What counts is model-steps per second: optimiser steps of all models, by the time. The alternatives are plain loops with
``torch.optim``'s Adam, as it comes and with ``fused=True``, in one process or in several that train a model each; a
model takes one thread. Fused are K models in one process, or K/n in each of n. All ways take turns, some rounds long,
so that what else the machine does touches all of them; the figures are medians over the rounds, and so is the ratio to
the best alternative of the same round. ``auto`` is what the probe of a sweep chooses, and how that compares.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

import velodrome as velo
from velodrome.trials.fused.fused import Fused
from velodrome.trials.fused.member import Member
from velodrome.trials.fused.probe import probe
from velodrome.trials.training_job import Batch

SIZES = (1, 8, 32, 128)


class Benchmark(velo.TrainingJob):
    """Ten classes of random samples, about as many as scikit-learn's digits, in whole batches."""

    epochs = 1_000_000
    shape: tuple[int, ...] = (64,)
    samples = 1408
    batch = 32

    def data(self) -> velo.Data:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.samples, *self.shape, generator=generator)
        y = torch.randint(10, (self.samples,), generator=generator)
        return velo.Data(train=(x, y), validation=(x[:100], y[:100]))

    def loss(self, model: nn.Module, batch: Batch, params: Mapping[str, Any]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    def optimizer(self, params: Mapping[str, Any]) -> velo.Adam:
        return velo.Adam(lr=params["lr"])

    def batch_size(self, params: Mapping[str, Any]) -> int:
        return self.batch


class MLP32(Benchmark):
    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


class MLP128(Benchmark):
    batch = 64

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


class CNN8(Benchmark):
    shape = (1, 8, 8)

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(256, 10),
        )


class CNN28(Benchmark):
    shape = (1, 28, 28)

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 10),
        )


class SmallTransformer(nn.Module):
    """One encoder layer over rows of eight numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(self.embed(x)).mean(1))
        return out


class Transformer(Benchmark):
    shape = (8, 8)

    def model(self, params: Mapping[str, Any]) -> nn.Module:
        return SmallTransformer()


JOBS: dict[str, Callable[[], Benchmark]] = {
    "MLP 64-32-32-10, batch 32": MLP32, "MLP 64-128-128-10, batch 64": MLP128, "CNN on 8x8, batch 32": CNN8,
    "CNN on 28x28, batch 32": CNN28, "Transformer, 8 tokens of 32, batch 32": Transformer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--models", default="", help="only those with this text in their name")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of models")
    parser.add_argument("--processes", type=int, default=2, help="of the pool")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="of one measurement")
    parser.add_argument("--quick", action="store_true", help="the small perceptron, 3 rounds")
    args = parser.parse_args()
    names = [name for name in JOBS if args.models.lower() in name.lower()]
    if args.quick:
        names, args.rounds = names[:1], 3
    sizes = [int(size) for size in args.sizes.split(",")]
    with Pool(args.processes, args.device, args.seconds) as pool:
        print("Model-steps per second; ratio: the best fused to the best alternative with as many models\n")
        print(f"| model | K | one process | {args.processes} processes | with fused Adam | fused, one process "
              f"| fused, {args.processes} processes | ratio | auto |\n|---|---|---|---|---|---|---|---|---|")
        for name in names:
            for line in lines(name, pool, sizes, args.rounds):
                print(line, flush=True)


def lines(name: str, pool: Pool, sizes: list[int], rounds: int) -> list[str]:
    """The table's lines of a model."""
    num = pool.num
    ways: dict[Any, tuple[int, tuple[Any, ...]]] = {
        "one": (1, ("plain", name, True)),
        "default": (num, ("plain", name, False)), "pool": (num, ("plain", name, True)),
    }
    for size in sizes:
        ways[size, 1] = 1, ("fused", name, size)
        if size >= 2 * num:
            ways[size, num] = num, ("fused", name, size // num)
    for processes, command in ways.values():
        pool.run(processes, command, warm_up=True)
    groups = {size: pool.run(1, ("probe", name, (size, num))) for size in sizes}
    found: dict[Any, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (processes, command) in ways.items():
            found[way].append(pool.run(processes, command))
    pool.forget()
    table = []
    for size in sizes:
        others = ["one"] if size < num else ["one", "default", "pool"]
        ours = [way for way in ((size, 1), (size, num)) if way in found]
        ratios = [max(found[way][i] for way in ours) / max(found[way][i] for way in others) for i in range(rounds)]
        auto = _nearest(ours, found, groups[size]) if groups[size] else others[-1]
        chosen = [found[auto][i] / max(found[way][i] for way in others) for i in range(rounds)]
        cells = [_text(found, way) if way in others or way in ours else ""
                 for way in ("one", "default", "pool", (size, 1), (size, num))]
        table.append(f"| {name} | {size} | {' | '.join(cells)} | {statistics.median(ratios):.2f} "
                     f"| {f'by {groups[size]:.0f}' if groups[size] else 'alone'} {statistics.median(chosen):.2f} |")
    return table


def _nearest(ours: list[Any], found: dict[Any, Any], group: float) -> Any:
    """What was measured with as many processes and groups nearest to the size that the probe chose."""
    processes = ours[-1][1]
    ways = [way for way in found if isinstance(way, tuple) and way[1] == processes and way[0] <= ours[-1][0]]
    return min(ways, key=lambda way: abs(math.log(way[0] / processes / group)))


def _text(found: dict[Any, list[float]], way: Any) -> str:
    return f"{statistics.median(found[way]):,.0f}"


class Pool:
    """Processes that train, each on one thread, and that are told by messages what."""

    def __init__(self, num: int, device: str, seconds: float) -> None:
        self.num = num
        context = multiprocessing.get_context("spawn")
        self._links = []
        for _ in range(num):
            ours, theirs = context.Pipe()
            context.Process(target=serve, args=(theirs, device, seconds), daemon=True).start()
            self._links.append(ours)

    def run(self, processes: int, command: tuple[Any, ...], *, warm_up: bool = False) -> float:
        """Model-steps per second of that many processes together."""
        for link in self._links[:processes]:
            link.send((*command, warm_up))
        return float(sum(link.recv() for link in self._links[:processes]))

    def forget(self) -> None:
        """Lets the models go."""
        for link in self._links:
            link.send(("forget", False))
            link.recv()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            link.close()


def serve(link: Connection, device: str, seconds: float) -> None:
    """A process of the pool."""
    torch.set_num_threads(1)
    kept: dict[tuple[Any, ...], Callable[[int], None]] = {}
    while True:
        try:
            *command, warm_up = link.recv()
        except EOFError:
            return
        if command == ["forget"]:
            kept.clear()
            link.send(0.0)
            continue
        if command[0] == "probe":
            job, (size, processes) = JOBS[command[1]](), command[2]
            chosen = probe(job, members(size), num_processes=processes, device=device, budget_s=1.0)
            link.send(float(chosen.group_size if chosen.is_fused else 0))
            continue
        key = tuple(command)
        if key not in kept:
            kept[key] = (fused if command[0] == "fused" else plain)(JOBS[command[1]](), command[2], device)
        models = command[2] if command[0] == "fused" else 1
        link.send(0.0 if warm_up and kept[key](3) is None else models * rate(kept[key], seconds, device))


def rate(train: Callable[[int], None], seconds: float, device: str) -> float:
    """Steps per second."""
    num_steps, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        train(1)
        num_steps += 1
        if device != "cpu" and num_steps % 10 == 0:
            torch.cuda.synchronize()
    return num_steps / passed


def fused(job: Benchmark, size: int, device: str) -> Callable[[int], None]:
    """A group's steps."""
    return Fused(job, members(size), device).step


def members(size: int) -> list[Member]:
    """Members with learning rates of their own."""
    return [Member(k, {"lr": 1e-4 * 1.03**k}, k) for k in range(size)]


def plain(job: Benchmark, is_fused: bool, device: str) -> Callable[[int], None]:
    """One model's steps, as one would write them."""
    data = job.dataset(device)
    x, y = data.train
    model = job.model({}).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=is_fused)
    order = torch.randperm(len(x), device=device)
    at = 0

    def train(num: int) -> None:
        nonlocal at, order
        for _ in range(num):
            if at >= len(x):
                at, order = 0, torch.randperm(len(x), device=device)
            samples = order[at : at + job.batch]
            at += job.batch
            optimizer.zero_grad()
            F.cross_entropy(model(x[samples]), y[samples]).backward()
            optimizer.step()

    return train


if __name__ == "__main__":
    main()
