"""What nets are put together from: ``Block``, ``Chain`` and ``Either``; more are in ``repeat`` and ``cell``.

Every part has domains, by names that are relative to where it stands, and expands to nodes of a graph. A part's own
domain has the name ``""``. Values flow through a chain in pairs, the one before and the one now, so that a cell can
read two of them.

>>> Chain("mean", head=Block("dense", width=Int(8, 64))).domains()
{'head.width': Int(8, 64)}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from velodrome.errors import SpaceError, nearest
from velodrome.search.arch.graph import Builder
from velodrome.search.arch.operators import REQUIRED, Op, operators
from velodrome.search.domains import Choice, Domain, Float, Int, domain_from_json
from velodrome.types import ParamValue


class Flow(NamedTuple):
    """The nodes that the next part may read."""

    before: int
    now: int

    def then(self, node: int) -> Flow:
        """The flow after a part with one output."""
        return Flow(self.now, node)


class Part(Protocol):
    """A part of a net.

    The calling loop::

        part.validate(where)                                   # when a space is made
        for name, domain in part.domains().items(): ...        # its parameters, flat
        flow = part.expand(params, where, graph, flow)         # its nodes, for one configuration
    """

    def domains(self) -> dict[str, Domain]:
        """Its parameters by names relative to it; ``""`` is its own."""
        ...

    def expand(self, params: Mapping[str, ParamValue], at: str, graph: Builder, flow: Flow) -> Flow:
        """Adds its nodes for a configuration that has its parameters under the name ``at``."""
        ...

    def validate(self, where: str) -> None:
        """Raises SpaceError, with the place, if it makes no sense."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The part as JSON."""
        ...


Setting = ParamValue | Domain
"""A setting of an operator: a value, or a domain to search."""


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Block:
    """One operator.

    Args:
        op: Its name.
        settings: Its settings by keyword: values, or domains that are searched.
    """

    op: str
    settings: tuple[tuple[str, Setting], ...]

    def __init__(self, op: str, /, **settings: Setting) -> None:
        object.__setattr__(self, "op", op)
        object.__setattr__(self, "settings", tuple(settings.items()))

    def __repr__(self) -> str:
        return f"Block({', '.join([repr(self.op), *(f'{k}={v!r}' for k, v in self.settings)])})"

    def domains(self) -> dict[str, Domain]:
        """The settings that are searched."""
        return {name: value for name, value in self.settings if isinstance(value, Float | Int | Choice)}

    def expand(self, params: Mapping[str, ParamValue], at: str, graph: Builder, flow: Flow) -> Flow:
        """One node."""
        return flow.then(self.node(params, at, graph, (flow.now,)))

    def node(self, params: Mapping[str, ParamValue], at: str, graph: Builder, inputs: tuple[int, ...]) -> int:
        """The operator's node over these inputs."""
        settings = {
            name: params[f"{at}.{name}"] if isinstance(value, Float | Int | Choice) else value
            for name, value in self.settings
        }
        return graph.add(at, self.op, settings, inputs)

    def validate(self, where: str) -> None:
        """Raises SpaceError if a setting is unknown or missing; an operator that is not registered passes."""
        if not isinstance(self.op, str):
            raise SpaceError(f"Block {where!r} has no operator", given=repr(self.op), allowed='Block("conv", width=16)')
        for name, value in self.settings:
            if isinstance(value, Float | Int | Choice):
                value.validate(f"{where}.{name}")
                if isinstance(value, Choice) and any(value.branches):
                    raise SpaceError(f"Setting {name!r} of {where!r} has parameters inside its options",
                                     given=repr(value), allowed="plain options; Either(...) for parts with their own")
            elif not isinstance(value, bool | int | float | str | None):
                raise SpaceError(f"Setting {name!r} of {where!r} is no value and no domain", given=repr(value),
                                 allowed="a number, a text, True, False, None, Float, Int or Choice")
        known = operators()
        if self.op in known:
            self._check_settings(known[self.op], where)

    def _check_settings(self, op: Op, where: str) -> None:
        given = dict(self.settings)
        for name in given:
            if name not in op.defaults:
                raise SpaceError(f"Operator {self.op!r} of {where!r} has no setting {name!r}", given=repr(self),
                                 allowed=", ".join(op.defaults) or "no settings", hint=nearest(name, op.defaults))
        for name, default in op.defaults.items():
            if default is REQUIRED and name not in given:
                raise SpaceError(f"Operator {self.op!r} of {where!r} needs the setting {name!r}", given=repr(self),
                                 allowed=", ".join(op.defaults))

    def to_json(self) -> dict[str, Any]:
        """The part as JSON."""
        settings = {k: {"domain": v.to_json()} if isinstance(v, Float | Int | Choice) else v for k, v in self.settings}
        home = known.home if (known := operators().get(self.op)) is not None else ""
        return {"part": "block", "op": self.op, "settings": settings, **({"home": home} if home else {})}


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Chain:
    """Parts one after the other, by keyword or in order (their names are 0, 1, ... then)."""

    parts: tuple[tuple[str, Part], ...]

    def __init__(self, *parts: Part | str, **named: Part | str) -> None:
        numbered = ((str(i), part) for i, part in enumerate(parts))
        object.__setattr__(self, "parts", tuple((name, as_part(part)) for name, part in (*numbered, *named.items())))

    def __repr__(self) -> str:
        return f"Chain({named_parts(self.parts)})"

    def domains(self) -> dict[str, Domain]:
        """Those of its parts, by ``PART.NAME``."""
        return {join(name, inner): domain for name, part in self.parts for inner, domain in part.domains().items()}

    def expand(self, params: Mapping[str, ParamValue], at: str, graph: Builder, flow: Flow) -> Flow:
        """The nodes of each, in order."""
        for name, part in self.parts:
            flow = part.expand(params, join(at, name), graph, flow)
        return flow

    def validate(self, where: str) -> None:
        """Raises SpaceError if a part makes no sense, or there is none."""
        if not self.parts:
            raise SpaceError(f"Chain {where!r} has no parts", given="Chain()", allowed="one part or more")
        validate_parts(self.parts, where)

    def to_json(self) -> dict[str, Any]:
        """The part as JSON."""
        return {"part": "chain", "parts": [[name, part.to_json()] for name, part in self.parts]}


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Either:
    """One of several parts; the parameter is the chosen one's name, and its own parameters are inside that."""

    parts: tuple[tuple[str, Part], ...]

    def __init__(self, *parts: Part | str, **named: Part | str) -> None:
        names = [part if isinstance(part, str) else getattr(part, "op", str(i)) for i, part in enumerate(parts)]
        listed = zip(names, parts, strict=True)
        found = tuple((name, as_part(part)) for name, part in (*listed, *named.items()))
        object.__setattr__(self, "parts", found)

    def __repr__(self) -> str:
        return f"Either({named_parts(self.parts)})"

    def domains(self) -> dict[str, Domain]:
        """The choice, with the parts' own parameters in its branches, by ``PART.NAME``."""
        branches = [{join(name, inner): d for inner, d in part.domains().items()} for name, part in self.parts]
        if len(self.parts) == 1:
            return branches[0]
        return {"": Choice.of([name for name, _ in self.parts], branches)}

    def expand(self, params: Mapping[str, ParamValue], at: str, graph: Builder, flow: Flow) -> Flow:
        """The nodes of the chosen part."""
        name, part = self.chosen(params, at)
        if isinstance(part, Block):
            node = part.node(params, join(at, name), graph, (flow.now,))
            graph.nodes[node] = graph.nodes[node]._replace(name=at)
            return flow.then(node)
        return part.expand(params, join(at, name), graph, flow)

    def chosen(self, params: Mapping[str, ParamValue], at: str) -> tuple[str, Part]:
        """The part that a configuration has, with its name."""
        if len(self.parts) == 1:
            return self.parts[0]
        wanted = params[at]
        return next((name, part) for name, part in self.parts if name == wanted)

    def validate(self, where: str) -> None:
        """Raises SpaceError if a part makes no sense, there is none, or two have one name."""
        if not self.parts:
            raise SpaceError(f"Either {where!r} has no parts", given="Either()", allowed="one part or more")
        names = [name for name, _ in self.parts]
        for name in names:
            if names.count(name) > 1:
                raise SpaceError(f"Two parts of {where!r} are called {name!r}", given=repr(self),
                                 allowed="each name once", hint="Either(small=Block(...), large=Block(...))")
        validate_parts(self.parts, where)

    def to_json(self) -> dict[str, Any]:
        """The part as JSON."""
        return {"part": "either", "parts": [[name, part.to_json()] for name, part in self.parts]}


def as_part(part: Part | str) -> Part:
    """A part; a text is the name of an operator."""
    return Block(part) if isinstance(part, str) else part


def is_part(value: object) -> bool:
    """Whether this is a part of a net."""
    return hasattr(value, "expand") and hasattr(value, "domains")


def join(at: str, name: str) -> str:
    """The name of something inside: ``at.name``."""
    return f"{at}.{name}" if at and name else at or name


def named_parts(parts: tuple[tuple[str, Part], ...]) -> str:
    """Parts as they are written in Python."""
    return ", ".join(f"{name}={part!r}" if name.isidentifier() else repr(part) for name, part in parts)


def validate_parts(parts: tuple[tuple[str, Part], ...], where: str) -> None:
    """Raises SpaceError if one of them is no part, or makes no sense."""
    for name, part in parts:
        if not is_part(part):
            raise SpaceError(f"Part {join(where, name)!r} is no part of a net", given=repr(part),
                             allowed="Block, Chain, Repeat, Either, Residual, Cell or the name of an operator")
        part.validate(join(where, name))


# ---- JSON

_READERS: dict[str, Callable[[Mapping[str, Any], str], Part]] = {}


def reads(name: str) -> Callable[[Callable[[Mapping[str, Any], str], Part]], Callable[[Mapping[str, Any], str], Part]]:
    """Registers how a part of this name is read from JSON."""

    def register(read: Callable[[Mapping[str, Any], str], Part]) -> Callable[[Mapping[str, Any], str], Part]:
        _READERS[name] = read
        return read

    return register


def part_from_json(data: Mapping[str, Any], where: str) -> Part:
    """The part that ``to_json`` wrote.

    Raises:
        SpaceError: If it is none.
    """
    from velodrome.search.arch import cell, repeat  # noqa: F401 - they register how their parts are read

    try:
        return _READERS[data["part"]](data, where)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpaceError(f"Part {where!r} is not described as a part of a net", given=repr(data),
                         allowed=", ".join(_READERS)) from error


@reads("block")
def _block(data: Mapping[str, Any], where: str) -> Part:
    settings = {k: domain_from_json(v["domain"], join(where, k)) if isinstance(v, Mapping) else v
                for k, v in data["settings"].items()}
    return Block(data["op"], **settings)


@reads("chain")
def _chain(data: Mapping[str, Any], where: str) -> Part:
    chain: Chain = with_parts(Chain(), data, where)
    return chain


@reads("either")
def _either(data: Mapping[str, Any], where: str) -> Part:
    either: Either = with_parts(Either(), data, where)
    return either


def with_parts(empty: Any, data: Mapping[str, Any], where: str) -> Any:
    """A part of this kind, with the parts that the JSON has."""
    parts = tuple((name, part_from_json(inner, join(where, name))) for name, inner in data["parts"])
    put = object.__new__(type(empty))
    object.__setattr__(put, "parts", parts)
    return put


def homes_of(data: Any) -> dict[str, str]:
    """Where the operators in a part's JSON were registered: name to file."""
    if isinstance(data, Mapping):
        own = {data["op"]: data["home"]} if data.get("part") == "block" and data.get("home") else {}
        return own | {k: v for inner in data.values() for k, v in homes_of(inner).items()}
    if isinstance(data, list):
        return {k: v for inner in data for k, v in homes_of(inner).items()}
    return {}


