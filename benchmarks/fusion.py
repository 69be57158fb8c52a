"""Training many small models: one after the other, by a pool of processes, and fused into one.

    python benchmarks/fusion.py                    # everything on the CPU, less than four minutes
    python benchmarks/fusion.py --quick            # the small perceptron alone
    python benchmarks/fusion.py --device cuda      # on a GPU; the pool is then 8 processes that share it

What counts is model-steps per second: optimiser steps of all models, by the time. The alternatives are plain loops with
``torch.optim``'s Adam, as it comes and with ``fused=True``, in one process or in several that train a model each; a
model takes one thread. Fused are K models in one process, or K/n in each of n. All ways take turns, some rounds long,
so that what else the machine does touches all of them; the figures are medians over the rounds, and so is the ratio to
the best alternative of the same round. ``auto`` is what the probe of a sweep chooses, and how that compares; where it
does not fuse, a trial alone with the plain loop.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

import velodrome as velo
from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.fused import Fused
from velodrome.trials.fused.member import Member
from velodrome.trials.fused.probe import probe
from velodrome.trials.training_job import Batch


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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--models", default="", help="only those with this text in their name")
    parser.add_argument("--sizes", default="1,8,32,128", help="numbers of models")
    parser.add_argument("--processes", type=int, help="of the pool: 2, or 8 that share a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one measurement")
    parser.add_argument("--quick", action="store_true", help="the small perceptron, 3 rounds")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that torch can use is here")
    names = [name for name in JOBS if args.models.lower() in name.lower()]
    if args.quick:
        names, args.rounds = names[:1], 3
    sizes = [int(size) for size in args.sizes.split(",")]
    num = args.processes or (2 if args.device == "cpu" else 8)
    results: list[Result] = []
    with Pool(num, args.device, args.seconds) as pool:
        print(f"Model-steps per second on {machine(args.device)}; ratio: the best fused to the best alternative\n")
        print(f"| model | K | one process | {num} processes | with fused Adam | fused, one process "
              f"| fused, {num} processes | ratio | auto | a member more |\n|---|---|---|---|---|---|---|---|---|---|")
        for name in names:
            for result in measured(name, pool, sizes, args.rounds):
                results.append(result)
                print(result.line(), flush=True)
    if args.device == "cuda":
        print(f"\n{bars(results)}")


def machine(device: str) -> str:
    """What measures."""
    return torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores"


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of a number of models.

    Attributes:
        name: Of the model.
        size: How many of them.
        rates: Model-steps per second by way, in the order of the table's columns; None where it makes no sense.
        ratio: The best fused to the best alternative.
        to_one: The best fused to one process that trains a model at a time.
        auto: What the probe chose, and how it compares with the best alternative.
        member_bytes: What one member more takes.
    """

    name: str
    size: int
    rates: list[float | None]
    ratio: float
    to_one: float
    auto: str
    member_bytes: float

    def line(self) -> str:
        """The table's line."""
        cells = ["" if rate is None else f"{rate:,.0f}" for rate in self.rates]
        return (f"| {self.name} | {self.size} | {' | '.join(cells)} | {self.ratio:.2f} | {self.auto} "
                f"| {self.member_bytes / 1024:,.0f} KiB |")


def bars(results: list[Result]) -> str:
    """Whether a GPU does what is expected of it: in groups of 64 or more, against a process, and against several."""
    lines = []
    for result in results:
        if result.size >= 64 and result.name.startswith(("MLP", "CNN")):
            pairs = (result.to_one, 15, "one process"), (result.ratio, 4, "the best without")
            words = [f"{value:.1f} times {what} ({'reached' if value >= bar else 'missed'}: {bar})"
                     for value, bar, what in pairs]
            lines.append(f"{result.name}, {result.size}: {', '.join(words)}")
    return "\n".join(lines)


def measured(name: str, pool: Pool, sizes: list[int], rounds: int) -> list[Result]:
    """What is found for a model."""
    num = pool.num
    ways: dict[Any, tuple[int, tuple[Any, ...]]] = {
        "one": (1, ("plain", name, True)),
        "default": (num, ("plain", name, False)), "pool": (num, ("plain", name, True)),
        "alone": (1, ("alone", name, 1)),
    }
    for size in sizes:
        ways[size, 1] = 1, ("fused", name, size)
        if size >= 2 * num:
            ways[size, num] = num, ("fused", name, size // num)
    for processes, command in ways.values():
        pool.run(processes, command, warm_up=True)
    sharing = num if pool.device == "cpu" else 1  # a GPU has one worker, with one group
    groups = {size: pool.run(1, ("probe", name, (size, sharing))) for size in sizes}
    found: dict[Any, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (processes, command) in ways.items():
            found[way].append(pool.run(processes, command))
    pool.forget()
    one_bytes = pool.run(1, ("bytes", name, 1))
    results = []
    for size in sizes:
        others = ["one"] if size < num else ["one", "default", "pool"]
        ours = [way for way in ((size, 1), (size, num)) if way in found]
        auto = (_ratio(found, [_nearest(ours, found, groups[size], sharing)], others) if groups[size]
                else _ratio(found, ["alone"], ["one"]))
        more_bytes = (pool.run(1, ("bytes", name, size)) - one_bytes) / (size - 1) if size > 1 else one_bytes
        results.append(Result(
            name, size,
            [statistics.median(found[way]) if way in others or way in ours else None
             for way in ("one", "default", "pool", (size, 1), (size, num))],
            _ratio(found, ours, others), _ratio(found, ours, ["one"]),
            f"{f'by {groups[size]:.0f}' if groups[size] else 'alone'} {auto:.2f}", more_bytes,
        ))
    return results


def _ratio(found: dict[Any, list[float]], ours: list[Any], others: list[Any]) -> float:
    """Of the best of some ways to the best of others, in the same round; the median of the rounds."""
    rounds = range(len(found[ours[0]]))
    return statistics.median(max(found[way][i] for way in ours) / max(found[way][i] for way in others) for i in rounds)


def _nearest(ours: list[Any], found: dict[Any, Any], group: float, sharing: int) -> Any:
    """What was measured with so many processes, or with one, and groups nearest to the size that the probe chose."""
    processes = min(ours[-1][1], sharing)
    ways = [way for way in found if isinstance(way, tuple) and way[1] == processes and way[0] <= ours[-1][0]]
    return min(ways, key=lambda way: abs(math.log(way[0] / processes / group)))


class Pool:
    """Processes that train, each on one thread, and that are told by messages what."""

    def __init__(self, num: int, device: str, seconds: float) -> None:
        self.num, self.device = num, device
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
        if command[0] == "bytes":
            link.send(held_bytes(JOBS[command[1]](), command[2], device))
            continue
        if command[0] == "probe":
            job, (size, processes) = JOBS[command[1]](), command[2]
            chosen = probe(job, members(size), num_processes=processes, device=device, budget_s=1.0)
            link.send(float(chosen.group_size if chosen.is_fused else 0))
            continue
        key = tuple(command)
        if key not in kept:
            kept[key] = WAYS[command[0]](JOBS[command[1]](), command[2], device)
        models = command[2] if command[0] == "fused" else 1
        link.send(0.0 if warm_up and kept[key](3) is None else models * rate(kept[key], seconds, device))


def rate(train: Callable[[int], None], seconds: float, device: str) -> float:
    """Steps per second."""
    num_steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        train(1)
        num_steps += 1
        if device != "cpu" and num_steps % 10 == 0:
            torch.cuda.synchronize()
    if device != "cpu":
        torch.cuda.synchronize()
    return num_steps / (time.perf_counter() - started)


def held_bytes(job: Benchmark, size: int, device: str) -> float:
    """What a group takes: on a GPU at most while it trains; on a CPU weights, gradients, the optimiser and buffers."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        Fused(job, members(size), device).step(3)
        return float(torch.cuda.max_memory_allocated() - before)
    group, num_bytes = Fused(job, members(size), device), 0
    for member in group.members:
        state = group.state(member.number)
        own = [state.parameters, state.parameters, state.buffers, *state.slots.values()]
        num_bytes += sum(tensor.nbytes for tensors in own for tensor in tensors.values())
    return float(num_bytes)


def fused(job: Benchmark, size: int, device: str) -> Callable[[int], None]:
    """A group's steps."""
    return Fused(job, members(size), device).step


def alone(job: Benchmark, _size: int, device: str) -> Callable[[int], None]:
    """A trial's steps where nothing is fused."""
    return Alone(job, members(1)[0], device).step


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


WAYS: dict[str, Callable[..., Callable[[int], None]]] = {"plain": plain, "fused": fused, "alone": alone}


if __name__ == "__main__":
    main()
