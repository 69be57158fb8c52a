"""Gradient steps on a GPU as CUDA graphs: their operations are recorded once, and then started all at once.

A step of SAC is some hundreds of operations, each of which takes the processor longer to start than the GPU to do.
Recorded, a step is one start. For that it has to lie on the device as a whole: it reads nothing back, and everything
that it changes, it changes in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from velodrome.errors import Diverged
from velodrome.rl.flat import FlatAdam
from velodrome.rl.replay import Transitions

_WARMUPS = 3
"""Steps before one is recorded, undone afterwards: libraries take their memory at the first."""

Results = tuple[Tensor, Tensor | None]


class Recorded:
    """Runs the gradient steps of a learner: on a GPU from recordings, elsewhere as they are.

    Args:
        step: Of a batch, the weights ``[B]`` of its losses or None, and switches; gives figures ``[F]``, and errors
            ``[B]`` or None. Where its optimisers check gradients, it raises if one is not finite.
        device: Where it computes.
        adams: All optimisers that it uses.
        generators: All random streams that it draws from.
        save: Gives all that it changes.
        load: Takes that back, in place.
    """

    def __init__(
        self, step: Callable[..., Results], device: torch.device, *, adams: Sequence[FlatAdam],
        generators: Sequence[Generator], save: Callable[[], Mapping[str, Any]],
        load: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.is_used = device.type == "cuda"
        self._step, self._adams, self._generators, self._save, self._load = step, adams, generators, save, load
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(
        self, batch: Transitions, weights: Tensor | None, *switches: bool
    ) -> tuple[list[float], Tensor | None]:
        """A step's figures, and its errors, which stay until the next step. There is a recording for each shape.

        Raises:
            Diverged: If a gradient is not finite.
        """
        if not self.is_used:
            results, errors = self._step(batch, weights, *switches)
            return results.tolist(), errors
        given = [part for part in (*batch, weights) if part is not None]
        key = switches, *((part.shape, part.dtype) for part in given)
        if key not in self._recordings:
            self._recordings[key] = self._record(batch, weights, switches)
        recording = self._recordings[key]
        for kept, part in zip(recording.inputs, given, strict=True):
            kept.copy_(part)
        for adam in self._adams:
            adam.send_learning_rate()
        recording.replay()
        numbers = recording.numbers.tolist()
        norms, figures = numbers[:len(self._adams)], numbers[len(self._adams):]
        if not all(map(math.isfinite, norms)):
            self._step(batch, weights, *switches)  # checks on its way, and names what is not finite
            raise Diverged("the gradient's length is infinite")
        return figures, recording.errors

    def _record(self, batch: Transitions, weights: Tensor | None, switches: tuple[bool, ...]) -> _Recording:
        """The step as a graph; nothing has changed once it is there."""
        batch = Transitions(*(part if part is None else part.clone() for part in batch))  # type: ignore[arg-type]
        weights = None if weights is None else weights.clone()

        def work() -> Results:
            figures, errors = self._step(batch, weights, *switches)
            return torch.cat([torch.stack([adam.norm for adam in self._adams]), figures]), errors

        before = self._save()
        for adam in self._adams:
            adam.checks = False
        try:
            replay, (numbers, errors) = capture(work, self._generators, lambda: self._load(before))
        finally:
            for adam in self._adams:
                adam.checks = True
        return _Recording([part for part in (*batch, weights) if part is not None], replay, numbers, errors)


@dataclass(frozen=True, slots=True)
class _Recording:
    """A graph and its memory: what it reads, and what it gives."""

    inputs: list[Tensor]
    replay: Callable[[], None]
    numbers: Tensor
    errors: Tensor | None


def capture(
    work: Callable[[], Results], generators: Sequence[Generator], undo: Callable[[], None]
) -> tuple[Callable[[], None], Results]:
    """Records work on a GPU: what does it again, and where its results will be. ``undo`` is called after a warm-up."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARMUPS):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    undo()
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph, stream=stream):
        results = work()
    return graph.replay, results
