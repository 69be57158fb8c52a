"""From a graph to a module that can be trained: one submodule for each node, run in order."""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import nn

from velodrome.search.arch.graph import Graph, Node
from velodrome.search.arch.operators import Settings, Shape, make_module

PoolKey = tuple[str, str, Settings, tuple[Shape, ...]]
"""What makes two nodes' weights the same ones: name, operator, settings and input shapes."""


class GraphModule(nn.Module):
    """A net.

    Attributes:
        graph: What it was built from, simplified.
    """

    def __init__(self, graph: Graph, modules: list[nn.Module]) -> None:
        super().__init__()
        self.graph = graph
        self.nodes = nn.ModuleDict({module_name(node): m for node, m in zip(graph.nodes[1:], modules, strict=True)})
        self._plan = [(m, node.inputs) for node, m in zip(graph.nodes[1:], modules, strict=True)]
        last = {source: i for i, node in enumerate(graph.nodes) for source in node.inputs}
        self._dies = [[s for s in dict.fromkeys(node.inputs) if last[s] == i] for i, node in enumerate(graph.nodes)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output of the last node; a value is let go once nothing reads it any more."""
        values: list[torch.Tensor | None] = [x]
        for (module, inputs), dies in zip(self._plan, self._dies[1:], strict=True):
            values.append(module(*(values[i] for i in inputs)))
            for i in dies:
                values[i] = None
        out = values[-1]
        assert out is not None
        return out


def build(graph: Graph, pool: MutableMapping[PoolKey, nn.Module] | None = None) -> GraphModule:
    """A module for a graph, simplified first.

    Args:
        graph: The net.
        pool: Modules that are shared between nets: a node takes the one of its key, and puts a new one where there is
            none. None draws all weights anew.

    Raises:
        ArchitectureError: If the net can't be built; it names the node.
    """
    plain = graph.simplified()
    measures = plain.measures()
    modules: list[nn.Module] = []
    for node in plain.nodes[1:]:
        shapes = tuple(measures[i].shape for i in node.inputs)
        key = (node.name, node.op, node.settings, shapes)
        module = None if pool is None else pool.get(key)
        if module is None:
            module = make_module(node.op, node.settings, shapes)
            if pool is not None:
                pool[key] = module
        modules.append(module)
    return GraphModule(plain, modules)


def module_name(node: Node) -> str:
    """The node's name as torch takes it: no dots."""
    return node.name.replace(".", "/")
