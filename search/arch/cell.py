"""``Cell``: a small directed graph with an operator on each edge, as in NAS-Bench-201 and DARTS.

>>> cell = Cell("zero", "skip", "conv3x3", nodes=2)
>>> list(cell.domains())
['0-1', '0-2', '1-2']

Nodes are numbered, the inputs first; every further node is the sum of its edges. With ``nodes=n`` there is an edge from
every earlier node to every later one (NAS-Bench-201, https://arxiv.org/abs/2001.00326: three nodes after the input);
with ``picks=2`` each node chooses two of the earlier ones to read (DARTS, https://arxiv.org/abs/1806.09055); with
``edges`` only those edges are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from velodrome.errors import SpaceError
from velodrome.search.arch.graph import Builder
from velodrome.search.arch.operators import operators
from velodrome.search.arch.parts import (
    Block,
    Either,
    Flow,
    Part,
    join,
    named_parts,
    reads,
    with_parts,
)
from velodrome.search.domains import Choice, Domain
from velodrome.types import ParamValue

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Cell:
    """A directed acyclic graph with a choice of operators on each edge.

    Args:
        ops: Names of operators, or parts; the parameter of an edge is the chosen one's name.
        nodes: How many nodes there are after the inputs.
        edges: Only these edges, as pairs (from, to), instead of all of them.
        picks: How many earlier nodes each node reads, instead of all of them.
        inputs: 1, or 2 for the outputs of the last part and the one before it.
        output: What comes out: the ``"last"`` node, or all nodes joined (``"concat"``).
        width: Brings the inputs to so many channels first; None leaves them as they are.
        reduce: Whether edges from the inputs halve the image (``stride=2``).
        named: Further operators by keyword.
    """

    parts: tuple[tuple[str, Part], ...]
    nodes: int
    edges: tuple[Edge, ...] | None
    picks: int | None
    inputs: int
    output: str
    width: int | None
    reduce: bool

    def __init__(
        self, *ops: Part | str, nodes: int = 3, edges: Sequence[Edge] | None = None, picks: int | None = None,
        inputs: int = 1, output: str = "last", width: int | None = None, reduce: bool = False, **named: Part | str,
    ) -> None:
        put = object.__setattr__
        put(self, "parts", Either(*ops, **named).parts)
        put(self, "nodes", nodes)
        put(self, "edges", None if edges is None else tuple((int(a), int(b)) for a, b in edges))
        put(self, "picks", picks)
        put(self, "inputs", inputs)
        put(self, "output", output)
        put(self, "width", width)
        put(self, "reduce", reduce)

    def __repr__(self) -> str:
        options = [f"{key}={value!r}" for key, value in self._options().items()]
        return f"Cell({', '.join([named_parts(self.parts), *options])})"

    def domains(self) -> dict[str, Domain]:
        """A choice for each edge, by ``FROM-TO``; where nodes pick, ``NODE.from`` and one for each pick, ``NODE.0``."""
        found: dict[str, Domain] = {}
        op = self._op()
        for node in range(self.inputs, self._count()):
            if self._picks_at(node):
                found[f"{node}.from"] = Choice(*self._pairs(node))
            for name in self._slots(node):
                found |= {join(name, inner): domain for inner, domain in op.domains().items()}
        return found

    def expand(self, params: Mapping[str, ParamValue], at: str, graph: Builder, flow: Flow) -> Flow:
        """The nodes of all edges, and a sum for each node of the cell."""
        values = [flow.now] if self.inputs == 1 else [flow.before, flow.now]
        if self.width is not None:
            values = [graph.add(f"{at}.in{i}", "align", {"width": self.width}, (value, flow.now))
                      for i, value in enumerate(values)]
        if self.edges is not None:
            values += [-1] * (self._count() - self.inputs)
        for node in self._order():
            edges = self._read(params, at, node)
            read = [self._edge(params, at, name, source, values, graph) for name, source in edges]
            total = graph.add(f"{at}.{node}", "add", {}, read)
            if self.edges is None:
                values.append(total)
            else:
                values[node] = total
        if self.output == "last":
            return flow.then(values[-1])
        return flow.then(graph.add(f"{at}.out", "concat", {}, values[self.inputs:]))

    def validate(self, where: str) -> None:
        """Raises SpaceError if an operator makes no sense, or the edges form a cycle."""
        for name, value, low in (("nodes", self.nodes, 1), ("inputs", self.inputs, 1), ("picks", self.picks or 1, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise SpaceError(f"Cell {where!r} has no {name} that make sense", given=repr(value),
                                 allowed=f"a whole number of {low} or more")
        if self.inputs > 2 or self.output not in ("last", "concat"):
            raise SpaceError(f"Cell {where!r} makes no sense", given=f"inputs={self.inputs}, output={self.output!r}",
                             allowed="inputs=1 or 2, output='last' or 'concat'")
        if not self.parts:
            raise SpaceError(f"Cell {where!r} has no operators", given="Cell()", allowed='Cell("skip", "conv3x3")')
        Either(**dict(self.parts)).validate(where)
        if self.reduce:
            self._check_reduce(where)
        if self.edges is not None:
            self._check_edges(where)

    def to_json(self) -> dict[str, Any]:
        """The part as JSON."""
        edges = None if self.edges is None else [list(edge) for edge in self.edges]
        return {"part": "cell", "parts": [[name, part.to_json()] for name, part in self.parts],
                **self._options(), **({} if edges is None else {"edges": edges})}

    # ---- its edges

    def _op(self) -> Either:
        op = object.__new__(Either)
        object.__setattr__(op, "parts", self.parts)
        return op

    def _options(self) -> dict[str, Any]:
        """Those that are not at their defaults."""
        defaults = {"nodes": 3, "edges": None, "picks": None, "inputs": 1, "output": "last", "width": None,
                    "reduce": False}
        found = {name: getattr(self, name) for name, default in defaults.items() if getattr(self, name) != default}
        if self.edges is not None:
            found.pop("nodes", None)
        return found

    def _count(self) -> int:
        if self.edges is not None:
            return max(self.inputs, 1 + max((max(edge) for edge in self.edges), default=0))
        return self.inputs + self.nodes

    def _order(self) -> list[int]:
        """The nodes after the inputs, each after those that it reads."""
        if self.edges is None:
            return list(range(self.inputs, self._count()))
        return _topological(self.edges, range(self.inputs, self._count()))[0]

    def _picks_at(self, node: int) -> bool:
        return self.picks is not None and self.edges is None and node > self.picks

    def _pairs(self, node: int) -> list[str]:
        assert self.picks is not None
        return [",".join(map(str, pair)) for pair in combinations(range(node), self.picks)]

    def _slots(self, node: int) -> list[str]:
        """The names of the node's edges."""
        if self._picks_at(node):
            assert self.picks is not None
            return [f"{node}.{i}" for i in range(self.picks)]
        return [f"{source}-{node}" for source in self._sources(node)]

    def _sources(self, node: int) -> list[int]:
        return list(range(node)) if self.edges is None else [a for a, b in self.edges if b == node]

    def _read(self, params: Mapping[str, ParamValue], at: str, node: int) -> list[tuple[str, int]]:
        """The edges of a node in one configuration: their names, and the nodes that they come from."""
        sources = self._sources(node)
        if self._picks_at(node):
            sources = [int(source) for source in str(params[f"{at}.{node}.from"]).split(",")]
        return list(zip(self._slots(node), sources, strict=True))

    def _edge(
        self, params: Mapping[str, ParamValue], at: str, name: str, source: int, values: Sequence[int], graph: Builder,
    ) -> int:
        flow = self._op().expand(params, f"{at}.{name}", graph, Flow(values[source], values[source]))
        if self.reduce and source < self.inputs:
            node = graph.nodes[flow.now]
            settings = dict(node.settings) | {"stride": 2}
            graph.nodes[flow.now] = node._replace(settings=tuple(sorted(settings.items())))
        return flow.now

    # ---- what may be wrong with it

    def _check_reduce(self, where: str) -> None:
        known = operators()
        for name, part in self.parts:
            if not isinstance(part, Block) or (part.op in known and "stride" not in known[part.op].defaults):
                raise SpaceError(f"Operator {name!r} of {where!r} has no stride, so this cell can't halve the image",
                                 given=repr(part), allowed="operators with a setting stride, or reduce=False")

    def _check_edges(self, where: str) -> None:
        assert self.edges is not None
        if not self.edges or len(dict.fromkeys(self.edges)) != len(self.edges):
            raise SpaceError(f"Cell {where!r} has no edges, or one of them twice", given=repr(self.edges),
                             allowed="pairs (from, to), each once")
        for a, b in self.edges:
            if a < 0 or b < self.inputs:
                raise SpaceError(f"Cell {where!r} has an edge {a} -> {b} that can't be", given=repr(self.edges),
                                 allowed=f"edges to nodes from {self.inputs} on: the inputs come before")
        order, cycle = _topological(self.edges, range(self.inputs, self._count()))
        if cycle:
            raise SpaceError(f"Cell {where!r} has a cycle: {' -> '.join(map(str, cycle))}", given=repr(self.edges),
                             allowed="edges along which no node is reached from itself")
        for node in order:
            if not self._sources(node):
                raise SpaceError(f"Node {node} of cell {where!r} has no edge to it", given=repr(self.edges),
                                 allowed="an edge to each node")


def _topological(edges: Sequence[Edge], nodes: Sequence[int]) -> tuple[list[int], list[int]]:
    """The nodes in an order along the edges, or a cycle, such as [1, 2, 1]."""
    order: list[int] = []
    left = list(nodes)
    while left:
        ready = next((n for n in left if not any(b == n and a in left for a, b in edges)), None)
        if ready is None:
            walk = [left[0]]
            while walk[-1] not in walk[:-1]:
                walk.append(next(a for a, b in edges if b == walk[-1] and a in left))
            return order, walk[walk.index(walk[-1]):][::-1]
        left.remove(ready)
        order.append(ready)
    return order, []


@reads("cell")
def _cell(data: Mapping[str, Any], where: str) -> Part:
    parts = with_parts(Either(), data, where).parts
    options = {key: value for key, value in data.items() if key not in ("part", "parts")}
    cell = Cell(**options)
    object.__setattr__(cell, "parts", parts)
    return cell


