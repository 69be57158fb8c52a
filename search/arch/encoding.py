"""Configurations as sparse features, for models of how good they are: names to numbers.

- ``structure``: how often each pattern occurs in the simplified net: a node's operator with those around it, up to
  two steps away (the Weisfeiler-Lehman kernel; NAS-BOWL, Ru et al. 2021, https://arxiv.org/abs/2006.07556).
- ``paths``: how often each sequence of operators leads from the input to the output (BANANAS, White et al. 2021,
  https://arxiv.org/abs/1910.11858).
- ``adjacency``: every parameter as it is: a choice by its option, a number by its place on its scale.

The parameters outside the nets are always encoded as they are.
"""

from __future__ import annotations

from collections import Counter

from velodrome.search.arch.graph import Graph
from velodrome.search.domains import Choice
from velodrome.search.space import Space
from velodrome.types import Params

ENCODINGS = ("structure", "paths", "adjacency")
_STEPS = 2
_MOST_PATHS = 512

Features = dict[object, float]


def encode(space: Space, params: Params, encoding: str) -> Features:
    """The features of a configuration.

    Raises:
        ArchitectureError: If a net can't be measured.
    """
    nets = space.active_nets(params)
    inside = tuple(f"{name}." for name in nets)
    found: Features = {}
    for name, value in params.items():
        if encoding != "adjacency" and inside and name.startswith(inside):
            continue
        domain = space.domains[name]
        if isinstance(domain, Choice):
            found[name, str(value)] = 1.0
        else:
            found[name] = domain.to_unit(value)
    if encoding != "adjacency":
        count = patterns if encoding == "structure" else paths
        for name in nets:
            for pattern, times in count(space.graph(params, name).simplified()).items():
                found[name, pattern] = float(times)
    return found


def patterns(graph: Graph) -> Counter[int]:
    """How often each pattern of up to two steps occurs in a graph; patterns are named by hashes of this process."""
    readers: list[list[int]] = [[] for _ in graph.nodes]
    for i, node in enumerate(graph.nodes):
        for source in node.inputs:
            readers[source].append(i)
    labels = [hash((node.op, node.settings)) for node in graph.nodes]
    labels[-1] = hash((labels[-1], "output"))
    found = Counter(labels)
    for _ in range(_STEPS):
        labels = [
            hash((label, tuple(sorted([labels[j] for j in node.inputs])), tuple(sorted([labels[j] for j in reads]))))
            for label, node, reads in zip(labels, graph.nodes, readers, strict=True)
        ]
        found.update(labels)
    return found


def paths(graph: Graph) -> Counter[tuple[str, ...]]:
    """How often each sequence of operators, sums left out, leads from the input to the output; 512 at most a node."""
    ways: list[Counter[tuple[str, ...]]] = [Counter({(): 1})]
    for node in graph.nodes[1:]:
        here: Counter[tuple[str, ...]] = Counter()
        for source in node.inputs:
            for path, times in ways[source].items():
                here[path if node.op == "add" else (*path, node.op)] += times
        ways.append(Counter(dict(here.most_common(_MOST_PATHS))))
    return ways[-1]
