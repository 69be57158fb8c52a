"""A net before it is built: named nodes, each an operator with its settings and the nodes it reads.

Everything goes one way: parameters -> ``Graph`` -> measured, simplified, hashed, drawn, exported, or built. A node only
reads nodes before it, so a graph has no cycles. Node 0 is the input; the last node is the output.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from velodrome.errors import SpaceError
from velodrome.search.arch.operators import Measure, Settings, Shape, ShapeError, find, measured, shape_text
from velodrome.types import ParamValue

INPUT = "input"
_COMMUTATIVE = ("add",)
_KEEPS_ZERO = ("conv", "separable", "pool", "skip", "zero")
"""Base operators that make nothing of zeros: without a bias, or with a learnt constant at most (as NAS-Bench-201)."""


class ArchitectureError(SpaceError):
    """A net that can't be built; it names the node."""


class Node(NamedTuple):
    """One operator in a net."""

    name: str
    """Where it stands, as in the parameters: ``net.body.1.0-2``."""
    op: str
    settings: Settings
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """A net.

    Attributes:
        shape: Of the input, without the batch.
        nodes: In an order in which each comes after those that it reads; the first is the input, the last the output.
        homes: Where operators of the user's were registered: name to file.
    """

    shape: Shape
    nodes: tuple[Node, ...]
    homes: Mapping[str, str] = field(default_factory=dict, compare=False)
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def measures(self) -> list[Measure]:
        """What every node makes: the shape of its output, its parameters and its FLOPs, parallel to ``nodes``.

        Raises:
            ArchitectureError: If a node can't take its inputs, or its operator raises or is not registered.
        """
        if "measures" in self._cache:
            known: list[Measure] = self._cache["measures"]
            return known
        found = [Measure(self.shape, 0, 0)]
        for node in self.nodes[1:]:
            inputs = tuple([found[i].shape for i in node.inputs])
            try:
                found.append(measured(node.op, node.settings, inputs))
            except KeyError:
                find(node.op, node.name, self.homes.get(node.op, ""))
                found.append(self._measured(node, inputs))
            except Exception as error:
                raise self._impossible(node, inputs, error) from error
        self._cache["measures"] = found
        return found

    def total(self) -> Measure:
        """The shape of the output, and the parameters and FLOPs of the whole as it is built: simplified.

        Raises:
            ArchitectureError: As ``measures``.
        """
        found = self.simplified().measures()
        return Measure(found[-1].shape, sum(m.params for m in found), sum(m.flops for m in found))

    def simplified(self) -> Graph:
        """The same function with less: zeros and what only they feed are gone, plain skips are passed through, sums of
        sums are one sum, and what the output does not depend on is dropped.

        Raises:
            ArchitectureError: As ``measures``.
        """
        if "simplified" not in self._cache:
            self._cache["simplified"] = _simplified(self, self.measures())
        simplified: Graph = self._cache["simplified"]
        return simplified

    def key(self) -> str:
        """A hash, in 16 hexadecimal digits, that is the same for nets of the same structure: isomorphic cells are one.

        The graph is simplified first. Every node's colour is made of its operator, what it reads and what reads it, so
        two equal branches that are computed apart differ from one that is used twice.

        Raises:
            ArchitectureError: As ``measures``.
        """
        if "key" not in self._cache:
            self._cache["key"] = _digest(tuple(sorted(self.simplified().colours()))).hex()
        key: str = self._cache["key"]
        return key

    def colours(self) -> list[bytes]:
        """A colour for each node, by all that it depends on and all that depends on it."""
        nodes = self.nodes
        below: list[bytes] = []
        for node in nodes:
            inputs = [below[i] for i in node.inputs]
            below.append(_digest((node.op, node.settings, *_ordered(node.op, inputs)) if inputs else (self.shape,)))
        readers: list[list[bytes]] = [[] for _ in nodes]
        above: list[bytes] = [b""] * len(nodes)
        for i in range(len(nodes) - 1, -1, -1):
            above[i] = _digest((below[i], *sorted(readers[i])))
            for place, source in enumerate(nodes[i].inputs):
                readers[source].append(above[i] if nodes[i].op in _COMMUTATIVE else above[i] + bytes([place % 256]))
        whole: list[bytes] = []
        for node, colour in zip(nodes, above, strict=True):
            whole.append(_digest((colour, *_ordered(node.op, [whole[i] for i in node.inputs]))))
        return whole

    def _measured(self, node: Node, inputs: tuple[Shape, ...]) -> Measure:
        try:
            return measured(node.op, node.settings, inputs)
        except Exception as error:
            raise self._impossible(node, inputs, error) from error

    def _impossible(self, node: Node, inputs: tuple[Shape, ...], error: Exception) -> ArchitectureError:
        what = str(error) if isinstance(error, ShapeError) else f"it raised {type(error).__name__}: {error}"
        settings = "".join(f", {name}={value!r}" for name, value in node.settings)
        reads = " and ".join(f"{shape_text(shape)} from {self.nodes[i].name!r}"
                             for i, shape in zip(node.inputs, inputs, strict=True))
        return ArchitectureError(f"Node {node.name!r} ({node.op}{settings}) is impossible: {what}", given=reads)


class Builder:
    """A graph as it is made, node by node."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.nodes = [Node(INPUT, INPUT, (), ())]

    def add(self, name: str, op: str, settings: Mapping[str, ParamValue], inputs: Sequence[int]) -> int:
        """A new node; returns its number."""
        self.nodes.append(Node(name, op, tuple(sorted(settings.items())), tuple(inputs)))
        return len(self.nodes) - 1

    def done(self, homes: Mapping[str, str]) -> Graph:
        """The graph so far."""
        return Graph(self.shape, tuple(self.nodes), homes)


def _simplified(graph: Graph, measures: Sequence[Measure]) -> Graph:
    """Every node is one of three: zero, the same as an earlier one, or itself with fewer inputs."""
    zeros = [False] * len(graph.nodes)
    same = list(range(len(graph.nodes)))
    inputs: list[tuple[int, ...]] = [()] * len(graph.nodes)
    for i, node in enumerate(graph.nodes[1:], start=1):
        base = find(node.op, node.name, graph.homes.get(node.op, "")).base
        reads = tuple([same[j] for j in node.inputs])
        if base == "zero":
            zeros[i] = True
        elif base == "add":
            reads = tuple([k for j in reads if not zeros[j]
                           for k in (inputs[j] if graph.nodes[j].op == "add" else (j,))])
            zeros[i] = not reads
            if len(reads) == 1:
                same[i] = reads[0]
        elif zeros[reads[0]] and base in _KEEPS_ZERO:
            zeros[i] = True
        elif base == "skip" and not measures[i].params and measures[i].shape == measures[node.inputs[0]].shape:
            same[i] = reads[0]
        inputs[i] = reads
    return _live(graph, same[-1], zeros, inputs, measures)


def _live(
    graph: Graph, output: int, zeros: Sequence[bool], inputs: Sequence[tuple[int, ...]], measures: Sequence[Measure],
) -> Graph:
    """The nodes that the output depends on, renumbered; a zero that something needs is a node that reads the input."""
    wanted = [False] * len(graph.nodes)
    wanted[0] = wanted[output] = True
    for i in range(output, 0, -1):
        if wanted[i] and not zeros[i]:
            for j in inputs[i]:
                wanted[j] = True
    place: dict[int, int] = {}
    kept: list[Node] = []
    for i, node in enumerate(graph.nodes):
        if not wanted[i]:
            continue
        place[i] = len(kept)
        if i and zeros[i]:
            kept.append(_zero_node(node, graph.shape, measures[i].shape))
        else:
            kept.append(node._replace(inputs=tuple([place[j] for j in inputs[i]])))
    return Graph(graph.shape, tuple(kept), graph.homes)


def _zero_node(node: Node, shape: Shape, out: Shape) -> Node:
    settings = (("size", shape_text(out)),)
    return Node(node.name, "zeros", settings, (0,))


def _ordered(op: str, colours: list[bytes]) -> list[bytes]:
    return sorted(colours) if op in _COMMUTATIVE else colours


def _digest(parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
