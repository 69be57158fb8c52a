"""A supernet: one set of weights for all nets of a space, so that a net can be tried without being trained first.

There is no large module. A supernet is a pool of modules, one for each place and operator that occurs (a node's name,
its operator and settings, the shapes of its inputs), and a net takes from it those that it has. What is trained is one
net, that is one path, at a time (Guo et al. 2020, https://arxiv.org/abs/1904.00420), drawn fairly: over a round of
paths every option of every choice comes up equally often (Chu et al. 2021, https://arxiv.org/abs/1907.01845)::

    supernet = Supernet(space, device=trial.device)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.05)
    for x, y in batches:
        optimizer.zero_grad()
        for params in fair_paths(space, rng):
            loss(supernet.net(params)(x), y).backward()
        optimizer.step()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from velodrome.errors import NotFoundError
from velodrome.search.arch.build import GraphModule, PoolKey, build
from velodrome.search.arch.operators import make_module, operators
from velodrome.search.arch.variation import active_parameters
from velodrome.search.domains import Choice, Domain
from velodrome.search.space import Space
from velodrome.types import Params, ParamValue

_QUIET_ROUNDS = 10
_MOST_ROUNDS = 500


class Supernet:
    """The weights that all nets of a space share.

    Args:
        space: The space; it has one net.
        device: Where the weights are.
        seed: Of the paths that are walked to find all modules; torch's own generator draws the weights.

    Not handled: a module that first occurs in a net after this was made (where widths meet in very many ways) has
    weights that no optimizer made before knows of.
    """

    def __init__(self, space: Space, *, device: str = "cpu", seed: int = 0) -> None:
        self.space, self.device = space, device
        self._pool: dict[PoolKey, nn.Module] = {}
        rng, quiet = np.random.default_rng(seed), 0
        for _ in range(_MOST_ROUNDS):
            before = len(self._pool)
            for params in fair_paths(space, rng):
                self.net(params)
            quiet = quiet + 1 if len(self._pool) == before else 0
            if quiet == _QUIET_ROUNDS:
                break

    def net(self, params: Params) -> GraphModule:
        """The net of a configuration with the shared weights.

        Raises:
            ArchitectureError: If it can't be built; it names the node.
        """
        (at, net), = self.space.active_nets(params).items()
        return build(net.graph(params, at), self._pool).to(self.device)

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights."""
        for module in self._pool.values():
            yield from module.parameters()

    def state_dict(self) -> dict[str, Any]:
        """All weights and buffers, and which modules they belong to: for ``trial.checkpoint``."""
        return {"keys": [_plain(key) for key in self._pool],
                "modules": [dict(module.state_dict()) for module in self._pool.values()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the modules of a ``state_dict`` of a supernet over the same space; weights are set in place."""
        operators()
        for plain, weights in zip(state["keys"], state["modules"], strict=True):
            key = _key(plain)
            if key not in self._pool:
                self._pool[key] = make_module(key[1], key[2], key[3]).to(self.device)
            self._pool[key].load_state_dict(weights)

    @classmethod
    def of(cls, space: Space, state: Mapping[str, Any] | None, *, device: str = "cpu") -> Supernet:
        """The supernet of a ``state_dict``: in a trial that begins from the supernet's, ``trial.restore()`` has it.

        Raises:
            NotFoundError: If there is no state.
        """
        if state is None:
            raise NotFoundError("There are no shared weights yet", given="nothing restored",
                                hint="the trial of stage 'supernet' keeps them: trial.checkpoint(step, {\"supernet\": "
                                "supernet.state_dict(), ...}); it must have finished")
        supernet = cls.__new__(cls)
        supernet.space, supernet.device, supernet._pool = space, device, {}
        supernet.load_state_dict(state)
        return supernet


def fair_paths(space: Space, rng: np.random.Generator) -> list[Params]:
    """A round of configurations over which every option of every choice comes up equally often, numbers evenly spread.

    There are as many as the largest choice has options. One that breaks a constraint is replaced by a random one.
    """
    count = max((len(d.options) for d in space.domains.values() if isinstance(d, Choice)), default=1)
    columns = {name: _shuffled(domain, count, rng) for name, domain in space.domains.items()}
    found: list[Params] = []
    for i in range(count):
        params: Params = {}
        for name, _ in active_parameters(space, params):
            params[name] = columns[name][i]
        found.append(params if space.violated(params) is None else space.sample(rng))
    return found


def use_batch_statistics(net: nn.Module) -> nn.Module:
    """Puts a net into evaluation, with batch norms by each batch's own statistics: shared averages are nobody's."""
    net.eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.train()
    return net


def _shuffled(domain: Domain, count: int, rng: np.random.Generator) -> list[ParamValue]:
    if isinstance(domain, Choice):
        rounds = -(-count // len(domain.options))
        order = np.concatenate([rng.permutation(len(domain.options)) for _ in range(rounds)])[:count]
        return [domain.options[i] for i in order.tolist()]
    strata = (rng.permutation(count) + rng.random(count)) / count
    return [domain.from_unit(u) for u in strata.tolist()]


def _plain(key: PoolKey) -> list[Any]:
    name, op, settings, shapes = key
    return [name, op, [list(setting) for setting in settings], [list(shape) for shape in shapes]]


def _key(plain: list[Any]) -> PoolKey:
    name, op, settings, shapes = plain
    return name, op, tuple((k, v) for k, v in settings), tuple(tuple(shape) for shape in shapes)
