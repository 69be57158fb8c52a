"""``Net``: an architecture to search, as it stands in a space among hyperparameters.

>>> net = Net((1, 28, 28), body=Repeat(Block("conv", width=Int(8, 32)), times=2), head=Block("classifier", classes=10))
>>> list(net.domains())
['body.0.width', 'body.1.width']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from velodrome.errors import SpaceError
from velodrome.search.arch.graph import Builder, Graph
from velodrome.search.arch.parts import Chain, Flow, Part, homes_of, named_parts, part_from_json
from velodrome.search.domains import Domain
from velodrome.types import ParamValue

if TYPE_CHECKING:
    from torch import nn

    from velodrome.search.arch.operators import Shape


Items = tuple[tuple[str, ParamValue], ...]
_MOST_GRAPHS = 4096


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Net:
    """An architecture to search.

    Args:
        shape: Of one example, without the batch: ``(1, 28, 28)`` for a grey image, ``(64,)`` for features or tokens.
        parts: What it is put together from, in order; ``named`` ones come after them.
    """

    shape: Shape
    body: Chain
    homes: Mapping[str, str] = field(compare=False)
    _graphs: dict[tuple[str, Items], Graph] = field(compare=False, default_factory=dict)
    """The latest graphs: the same configuration is checked, hashed, encoded and built one after the other."""

    def __init__(self, shape: Shape, /, *parts: Part | str, **named: Part | str) -> None:
        put = object.__setattr__
        put(self, "shape", tuple(shape) if isinstance(shape, list | tuple) else shape)
        put(self, "body", Chain(*parts, **named))
        put(self, "homes", {})
        put(self, "_graphs", {})

    def __repr__(self) -> str:
        return f"Net({self.shape!r}, {named_parts(self.body.parts)})"

    def __hash__(self) -> int:
        return hash((self.shape, repr(self.body)))

    def domains(self) -> dict[str, Domain]:
        """Its parameters, by names relative to it."""
        return self.body.domains()

    def validate(self, name: str) -> None:
        """Raises SpaceError, with the place, if it makes no sense."""
        if not isinstance(self.shape, tuple) or not self.shape or not all(
                isinstance(n, int) and n > 0 for n in self.shape):
            raise SpaceError(f"Net {name!r} has no input shape", given=repr(self.shape),
                             allowed="whole numbers without the batch, as in Net((3, 32, 32), ...)")
        self.body.validate(name)

    def graph(self, params: Mapping[str, ParamValue], at: str = "net") -> Graph:
        """The net that a configuration describes, node by node.

        Args:
            params: A configuration of the space that holds this net.
            at: The net's name in it.
        """
        inside = f"{at}."
        key = at, tuple([item for item in params.items() if item[0].startswith(inside)])
        if key not in self._graphs:
            if len(self._graphs) >= _MOST_GRAPHS:
                self._graphs.clear()
            builder = Builder(self.shape)
            self.body.expand(params, at, builder, Flow(0, 0))
            self._graphs[key] = builder.done(self.homes)
        return self._graphs[key]

    def build(self, params: Mapping[str, ParamValue], at: str = "net") -> nn.Module:
        """The net as a module, with freshly drawn weights.

        Raises:
            ArchitectureError: If it can't be built; it names the node.
        """
        from velodrome.search.arch.build import build

        return build(self.graph(params, at))

    def to_json(self) -> dict[str, Any]:
        """The net as JSON; where an operator of the user's was registered stands with it."""
        return {"type": "net", "shape": list(self.shape), **self.body.to_json()}


def net_from_json(data: Mapping[str, Any], name: str) -> Net:
    """The net that ``to_json`` wrote.

    Raises:
        SpaceError: If it is none, or makes no sense.
    """
    body = part_from_json(data, name)
    shape = data.get("shape")
    net = Net(tuple(shape) if isinstance(shape, list) else shape)  # type: ignore[arg-type]  # validate refuses others
    object.__setattr__(net, "body", body)
    object.__setattr__(net, "homes", homes_of(data))
    net.validate(name)
    return net

