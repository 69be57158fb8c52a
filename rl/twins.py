"""Two perceptrons of one input, side by side on two threads: PPO's policy and value.

Each does what it would do alone, so that the numbers do not depend on it. Splitting every operation between threads, as
the framework does, pays little for layers of 64, and the threads wait for each other after each one; here they meet
twice in a gradient step.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from velodrome.rl import dense
from velodrome.rl.dense import Mlp

T = TypeVar("T")


def run_both(one: Mlp, other: Mlp, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the two give for x, ``[B, d_in]`` on a CPU; a node of the graph where there is one."""
    if not torch.is_grad_enabled():
        return _side_by_side(partial(one, x), partial(other, x))
    parameters = [parameter for network in (one, other) for part in network.layers for parameter in part]
    result: tuple[Tensor, Tensor] = _Both.apply(x, one, other, *parameters)  # type: ignore[no-untyped-call]  # torch
    return result


class _Both(torch.autograd.Function):
    """Both networks as one node."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, one: Mlp, other: Mlp, *_: Tensor) -> tuple[Tensor, Tensor]:
        ctx.networks, ctx.x = (one, other), x
        ctx.spaces = [network.space_for(x) for network in ctx.networks]
        for space in ctx.spaces:
            space.num_uses += 1
        ctx.uses = [space.num_uses for space in ctx.spaces]
        return _side_by_side(*(
            partial(dense.forward, x, network.layers[0], network.layers[1], space, network.activation)
            for network, space in zip(ctx.networks, ctx.spaces, strict=True)
        ))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_one: Tensor, by_other: Tensor) -> tuple[Tensor | None, ...]:
        for space, use in zip(ctx.spaces, ctx.uses, strict=True):
            dense.check_use(space, use)
        (one_x, of_one), (other_x, of_other) = _side_by_side(*(
            partial(dense.backward, gradient, [ctx.x, *space.hidden], network.layers[0], space, network.activation,
                    needs_x=ctx.needs_input_grad[0], learns=True)
            for network, space, gradient in zip(ctx.networks, ctx.spaces, (by_one, by_other), strict=True)
        ))
        by_x = None if one_x is None or other_x is None else one_x + other_x
        return by_x, None, None, *of_one, *of_other


def _side_by_side(one: Callable[[], T], other: Callable[[], T]) -> tuple[T, T]:
    """The results of both; the second is computed in a thread of its own."""
    future = _helper().submit(_without_graph, other)
    with torch.no_grad():
        first = one()
    return first, future.result()


def _without_graph(work: Callable[[], T]) -> T:
    with torch.no_grad():  # a thread has its own
        return work()


@cache
def _helper() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "velodrome-twin", initializer=torch.set_num_threads, initargs=(1,))
