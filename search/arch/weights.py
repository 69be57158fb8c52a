"""Which part of a checkpoint is a net's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from velodrome.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


_JOBS = frozenset({"parameters", "buffers"})


def load_weights(net: nn.Module, state: Any, where: str) -> None:
    """Gives a net the weights that a checkpoint has: the first part of it whose names are the net's own.

    A training job's checkpoint has them in two, ``parameters`` and ``buffers``.

    Args:
        net: The net, as it was built.
        state: What ``trial.checkpoint`` kept, such as ``{"model": net.state_dict(), "optimizer": ...}``.
        where: Whose checkpoint it is, for the error.

    Raises:
        UsageError: If no part of it fits the net.
    """
    wanted = list(net.state_dict())
    for part in _mappings(state):
        if sorted(map(str, part)) == sorted(wanted):
            net.load_state_dict(part)
            return
    raise UsageError(
        f"The checkpoint of {where} has no weights for the net", given=f"{type(state).__name__} with "
        + (", ".join(map(repr, state)) if isinstance(state, Mapping) else "no names"),
        allowed='net.state_dict() somewhere in it: trial.checkpoint(step, {"model": net.state_dict()})',
        hint="weights=False builds the net with freshly drawn weights",
    )


def _mappings(state: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(state, Mapping):
        yield state
        if state.keys() >= _JOBS:
            yield {name: value for part in sorted(_JOBS) for name, value in state[part].items()}
        for inner in state.values():
            yield from _mappings(inner)
