"""What a space with architectures asks of a configuration: that its nets can be built, and are not too large.

A constraint may name ``params`` and ``flops``, the parameters and FLOPs of all nets of the configuration together,
unless the space has a parameter of that name: ``constraints="params < 1e6"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from velodrome.errors import SpaceError
from velodrome.search.arch.graph import ArchitectureError
from velodrome.search.arch.net import Net
from velodrome.search.arch.operators import Measure, Shape
from velodrome.search.constraints import Condition, Constraint
from velodrome.search.domains import Choice, Domain
from velodrome.types import ParamValue

MEASURES = ("params", "flops")
"""What a constraint may name besides parameters."""

_EXAMPLES = 100


class Placed(NamedTuple):
    """A net, and where in its space it stands."""

    net: Net
    parent: str = ""
    """The choice that holds it; ``""`` for none."""
    options: tuple[ParamValue, ...] = ()
    """The parent's options under which it is there."""


Nets = Mapping[str, Placed]
"""The nets of a space by name."""


@dataclass(frozen=True, slots=True)
class Buildable:
    """The nets of a configuration can be built: shapes meet, and nothing shrinks to nothing."""

    nets: Nets = field(hash=False)
    text: str = "its nets can be built"

    def holds(self, params: Mapping[str, ParamValue]) -> bool:
        """Whether they can."""
        try:
            self._check(params)
        except ArchitectureError:
            return False
        return True

    def broken_by(self, params: Mapping[str, ParamValue]) -> SpaceError:
        """The error that names the node."""
        try:
            self._check(params)
        except ArchitectureError as error:
            return error
        raise AssertionError("the nets can be built")

    def advice(self) -> str:
        """What to do where no net can be built: an example of why."""
        import numpy as np

        from velodrome.search.space import Space

        space, rng = Space({name: placed.net for name, placed in self.nets.items()}), np.random.default_rng(0)
        for _ in range(_EXAMPLES):
            params = space.from_unit(rng.random(len(space)))
            if space.violated(params) is not None:
                return self.broken_by(params).what
        return "let the nets be others"

    def _check(self, params: Mapping[str, ParamValue]) -> None:
        for name, net in active(self.nets, params).items():
            net.graph(params, name).measures()


@dataclass(frozen=True, slots=True)
class Limit:
    """A constraint that names ``params`` or ``flops`` of the nets."""

    constraint: Constraint
    nets: Nets = field(hash=False)

    @property
    def text(self) -> str:
        """The constraint's text."""
        return self.constraint.text

    def holds(self, params: Mapping[str, ParamValue]) -> bool:
        """Whether the configuration meets it; one whose nets can't be built does not."""
        try:
            return self.constraint.holds(self._with_measures(params))
        except ArchitectureError:
            return False

    def broken_by(self, params: Mapping[str, ParamValue]) -> SpaceError:
        """The error, with the nets' size."""
        return self.constraint.broken_by(self._with_measures(params))

    def advice(self) -> str:
        """What to do where nothing meets it."""
        return "loosen the constraint, or let the nets be smaller or larger"

    def _with_measures(self, params: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
        total = measured(self.nets, params)
        return {"params": total.params, "flops": total.flops, **params}


def with_nets(
    constraints: tuple[Constraint, ...], nets: Nets, domains: Mapping[str, Domain]
) -> tuple[Condition, ...]:
    """The conditions of a space with nets: cheap ones first, then that the nets can be built, then their sizes."""
    sized = [any(name in MEASURES and name not in domains for name in c.names) for c in constraints]
    plain = [c for c, is_sized in zip(constraints, sized, strict=True) if not is_sized]
    limits = [Limit(c, nets) for c, is_sized in zip(constraints, sized, strict=True) if is_sized]
    return (*plain, Buildable(nets), *limits)


def active(nets: Nets, params: Mapping[str, ParamValue]) -> dict[str, Net]:
    """Those nets that a configuration has."""
    return {name: placed.net for name, placed in nets.items()
            if not placed.parent or (placed.parent in params and params[placed.parent] in placed.options)}


def place(domains: Mapping[str, Domain | Net]) -> dict[str, Placed]:
    """The nets among these domains and inside their choices, by name."""
    found: dict[str, Placed] = {}
    for name, domain in domains.items():
        if isinstance(domain, Net):
            found[name] = Placed(domain)
        elif isinstance(domain, Choice):
            for option, branch in zip(domain.options, domain.given, strict=True):
                inside = place({f"{name}.{child}": inner for child, inner in branch})
                for child, placed in inside.items():
                    mine = placed if placed.parent else placed._replace(parent=name, options=(option,))
                    known = found.get(child, mine)
                    found[child] = mine._replace(options=tuple(dict.fromkeys((*known.options, *mine.options))))
    return found


def measured(nets: Nets, params: Mapping[str, ParamValue]) -> Measure:
    """The parameters and FLOPs of all nets of a configuration; the shape is the last one's output.

    Raises:
        ArchitectureError: If one can't be built.
    """
    shape: Shape = ()
    num_params = flops = 0
    for name, net in active(nets, params).items():
        total = net.graph(params, name).total()
        shape, num_params, flops = total.shape, num_params + total.params, flops + total.flops
    return Measure(shape, num_params, flops)
