"""What a GPU computes again and again, as CUDA graphs: operations are recorded once, and then started all at once.

A gradient step of SAC is some hundreds of operations, each of which takes the processor longer to start than the GPU to
do. Recorded, a step is one start. For that it has to lie on the device as a whole: it reads nothing back, and whatever
it changes, it changes in place.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from velodrome.errors import Diverged
from velodrome.rl.flat import FlatAdam

_WARMUPS = 3
"""Work is done so often before it is recorded, and undone: libraries take their memory at the first time."""

_MAX_RECORDINGS = 4
"""Of the same work with inputs of other shapes; with further ones it is done as it is."""

Tensors = Sequence[Tensor | None]
Results = tuple[Any, ...]
"""Tensors, and None."""


class Recordings:
    """Recordings of some work for each shape of what it is given.

    Args:
        device: A GPU.
        generators: What it draws from.
        save: Gives all that it changes; None if it changes nothing.
        load: Takes that back, in place.
    """

    def __init__(
        self, device: torch.device, generators: Sequence[Generator] = (), *,
        save: Callable[[], Mapping[str, Any]] | None = None, load: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._device, self._generators, self._save, self._load = device, generators, save, load
        self._made: dict[Hashable, _Recording] = {}

    def __len__(self) -> int:
        return len(self._made)

    def play(self, work: Callable[..., Results], inputs: Tensors, *switches: bool) -> Results:
        """What ``work(*inputs)`` gives, on the device, in memory that later calls write to.

        With the same switches, it is the same work.
        """
        key = switches, *(None if part is None else (part.shape, part.dtype) for part in inputs)
        recording = self._made.get(key)
        if recording is None and len(self._made) >= _MAX_RECORDINGS:
            return work(*(None if part is None else part.to(self._device) for part in inputs))
        if recording is None:
            recording = self._made[key] = self._record(work, inputs)
        for kept, part in zip(recording.inputs, inputs, strict=True):
            if kept is not None and part is not None:
                kept.copy_(part)
        recording.replay()
        return recording.results

    def _record(self, work: Callable[..., Results], inputs: Tensors) -> _Recording:
        kept = [None if part is None else part.to(self._device, copy=True) for part in inputs]
        before = None if self._save is None else self._save()

        def undo() -> None:
            if self._load is not None and before is not None:
                self._load(before)

        replay, results = capture(partial(work, *kept), self._generators, undo)
        return _Recording(kept, replay, results)


class _Recording(NamedTuple):
    """A graph, and the memory that it reads and writes."""

    inputs: Tensors
    replay: Callable[[], None]
    results: Results


def capture(
    work: Callable[[], Results], generators: Sequence[Generator], undo: Callable[[], None]
) -> tuple[Callable[[], None], Results]:
    """Records work on a GPU: what does it again, and where its results will be. ``undo`` comes after the warm-up."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types for it
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARMUPS):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    undo()
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()  # a graph of the past that is let go of meanwhile would spoil this one
    try:
        with torch.cuda.graph(graph, stream=stream):
            results = work()
    except torch.AcceleratorError as error:  # that recording broke off, which comes of something: out of memory, say
        raise error.__context__ or error from None
    finally:
        if was_enabled:
            gc.enable()
    return graph.replay, results


class Forward:
    """What a network gives for observations on the CPU, on the CPU, wherever it computes. There are no gradients.

    Args:
        function: From a tensor to some, without drawing anything; weights may change in place.
        device: Where it computes.
    """

    def __init__(self, function: Callable[[Tensor], Results], device: torch.device) -> None:
        self._function = function
        self._recordings = None if device.type == "cpu" else Recordings(device)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Results:
        """Of x ``[B, ...]``."""
        if self._recordings is None:
            return self._function(x)
        return tuple(None if part is None else part.cpu() for part in self._recordings.play(self._function, [x]))


class Steps:
    """The gradient steps of a learner: on a GPU from recordings, elsewhere as they are.

    Args:
        step: Of a batch (a named tuple), the weights ``[B]`` of its losses or None, and switches; gives figures
            ``[F]``, and errors ``[B]`` or None. Where its optimisers check gradients, it raises if one is not finite.
        device: Where it computes.
        adams: All optimisers that it uses.
        generators: All random streams that it draws from.
        save: Gives all that it changes.
        load: Takes that back, in place.

    Attributes:
        recordings: None where steps are taken as they are.
    """

    def __init__(
        self, step: Callable[..., tuple[Tensor, Tensor | None]], device: torch.device, *, adams: Sequence[FlatAdam],
        generators: Sequence[Generator], save: Callable[[], Mapping[str, Any]],
        load: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._step, self._adams = step, adams
        self.recordings = None if device.type == "cpu" else Recordings(device, generators, save=save, load=load)

    def __call__(self, batch: Any, weights: Tensor | None, *switches: bool) -> tuple[list[float], Tensor | None]:
        """A step's figures, and its errors, which stay until the next step.

        Raises:
            Diverged: If a gradient is not finite.
        """
        if self.recordings is None:
            figures, errors = self._step(batch, weights, *switches)
            return figures.tolist(), errors

        def work(weights: Tensor | None, *columns: Tensor | None) -> Results:
            figures, errors = self._step(type(batch)(*columns), weights, *switches)
            return torch.cat([torch.stack([adam.norm for adam in self._adams]), figures]), errors

        for adam in self._adams:
            adam.checks = False
            adam.send_learning_rate()
        try:
            numbers, errors = self.recordings.play(work, (weights, *batch), *switches)
        finally:
            for adam in self._adams:
                adam.checks = True
        norms_and_figures = numbers.tolist()
        if not all(map(math.isfinite, norms_and_figures[:len(self._adams)])):
            self._step(batch, weights, *switches)  # checks on its way, and names what is not finite
            raise Diverged("the gradient's length is infinite")
        return norms_and_figures[len(self._adams):], errors
