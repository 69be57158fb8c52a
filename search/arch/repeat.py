"""Parts around other parts: ``Repeat`` has one several times, ``Residual`` adds its input to its output.

>>> Repeat(Block("dense", width=Int(8, 64)), times=Int(1, 2)).domains()
{'': Choice(1={'0.width': Int(8, 64)}, 2={'0.width': Int(8, 64), '1.width': Int(8, 64)})}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from velodrome.errors import SpaceError
from velodrome.search.arch.graph import Builder
from velodrome.search.arch.parts import Flow, Part, join, part_from_json, reads, validate_parts
from velodrome.search.domains import Choice, Domain, Float, Int, domain_from_json
from velodrome.types import ParamValue


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part several times, one after the other.

    Args:
        part: The part.
        times: How often: a number, an ``Int`` or a ``Choice`` of numbers.
        shared: Whether all copies have the same settings; otherwise each has its own.
        between: A part between each copy and the next, such as one that halves an image; its settings are the same
            everywhere.
    """

    part: Part
    times: int | Int | Choice = 1
    shared: bool = False
    between: Part | None = None

    def domains(self) -> dict[str, Domain]:
        """The number of copies, and inside it each one's parameters by ``NUMBER.NAME``; shared ones stand beside it."""
        inner, counts = self.part.domains(), self._counts()
        between = {join("between", name): d for name, d in self.between.domains().items()} if self.between else {}
        if self.shared:
            own = {} if len(counts) == 1 else {"": self._times()}
            return {**own, **{join("part", name) if "" in inner else name: d for name, d in inner.items()}, **between}
        branches = [{join(str(i), name): d for i in range(count) for name, d in inner.items()} for count in counts]
        return {**(branches[0] if len(counts) == 1 else {"": Choice.of(counts, branches)}), **between}

    def expand(self, params: Mapping[str, ParamValue], at: str, graph: Builder, flow: Flow) -> Flow:
        """The nodes of all copies."""
        counts = self._counts()
        count = counts[0] if len(counts) == 1 else params[at]
        assert isinstance(count, int)
        own = f"{at}.part" if "" in self.part.domains() else at
        for i in range(count):
            if self.between is not None and i > 0:
                flow = _expand_as(self.between, params, f"{at}.between", f"{at}.between{i}", graph, flow)
            if self.shared:
                flow = _expand_as(self.part, params, own, f"{at}.{i}", graph, flow)
            else:
                flow = self.part.expand(params, f"{at}.{i}", graph, flow)
        return flow

    def validate(self, where: str) -> None:
        """Raises SpaceError if the part or the number makes no sense."""
        if isinstance(self.times, Int | Choice):
            self.times.validate(where)
        counts = self._counts()
        if not counts or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
            raise SpaceError(f"Repeat {where!r} has no number of times", given=repr(self.times),
                             allowed="a whole number, Int(1, 4), Choice(2, 4, 8)")
        between = () if self.between is None else (("between", self.between),)
        validate_parts((("0", self.part), *between), where)

    def to_json(self) -> dict[str, Any]:
        """The part as JSON."""
        times = self.times.to_json() if isinstance(self.times, Int | Choice) else self.times
        between = {} if self.between is None else {"between": self.between.to_json()}
        return {"part": "repeat", "of": self.part.to_json(), "times": times, "shared": self.shared, **between}

    def _times(self) -> Domain:
        assert isinstance(self.times, Int | Choice)
        return self.times

    def _counts(self) -> list[Any]:
        match self.times:
            case Int():
                return [self.times.value_at(i) for i in range(self.times.cardinality)]
            case Choice():
                return list(self.times.options)
        return [self.times]


@dataclass(frozen=True, slots=True)
class Residual:
    """A part with its input added to its output, through a projection where their shapes differ.

    Args:
        part: The part.
        skip: Whether the input is added; ``Choice(True, False)`` lets the search decide.
    """

    part: Part
    skip: bool | Choice = True

    def domains(self) -> dict[str, Domain]:
        """Those of the part, and ``skip`` where it is searched."""
        own = {"skip": self.skip} if isinstance(self.skip, Choice) else {}
        return {**own, **{join("part", name): domain for name, domain in self.part.domains().items()}}

    def expand(self, params: Mapping[str, ParamValue], at: str, graph: Builder, flow: Flow) -> Flow:
        """The nodes of the part, and one that adds."""
        inner = self.part.expand(params, f"{at}.part", graph, flow)
        wanted = params[f"{at}.skip"] if isinstance(self.skip, Choice) else self.skip
        return flow.then(graph.add(f"{at}.sum", "residual", {}, (flow.now, inner.now)) if wanted else inner.now)

    def validate(self, where: str) -> None:
        """Raises SpaceError if the part makes no sense."""
        validate_parts((("part", self.part),), where)

    def to_json(self) -> dict[str, Any]:
        """The part as JSON."""
        skip = self.skip.to_json() if isinstance(self.skip, Choice) else self.skip
        return {"part": "residual", "of": self.part.to_json(), "skip": skip}


def _expand_as(
    part: Part, params: Mapping[str, ParamValue], at: str, name: str, graph: Builder, flow: Flow
) -> Flow:
    """Expands one of several copies whose parameters are shared under ``at``; its nodes' names begin with ``name``."""
    first = len(graph.nodes)
    flow = part.expand(params, at, graph, flow)
    for k in range(first, len(graph.nodes)):
        node = graph.nodes[k]
        graph.nodes[k] = node._replace(name=name + node.name.removeprefix(at))
    return flow


@reads("repeat")
def _repeat(data: Mapping[str, Any], where: str) -> Part:
    times = domain_from_json(data["times"], where) if isinstance(data["times"], Mapping) else data["times"]
    if isinstance(times, Float):
        raise TypeError(times)
    between = part_from_json(data["between"], where) if "between" in data else None
    return Repeat(part_from_json(data["of"], where), times, data["shared"], between)


@reads("residual")
def _residual(data: Mapping[str, Any], where: str) -> Part:
    skip = domain_from_json(data["skip"], where) if isinstance(data["skip"], Mapping) else data["skip"]
    assert isinstance(skip, bool | Choice)
    return Residual(part_from_json(data["of"], where), skip)
