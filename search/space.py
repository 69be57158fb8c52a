"""A search space: parameters by name, conditional ones included, with constraints between them. Immutable, and JSON.

>>> import velodrome as velo
>>> optimizer = velo.Choice("sgd", adam={"beta1": velo.Float(0.8, 0.99)})
>>> space = velo.Space(lr=velo.Float(1e-5, 1e-1, log=True), optimizer=optimizer)
>>> list(space.domains)
['lr', 'optimizer', 'optimizer.beta1']
>>> space.contains({"lr": 0.01, "optimizer": "sgd"})
True
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from velodrome.errors import SpaceError, nearest
from velodrome.search.changes import changes
from velodrome.search.columns import checked, decoded, flattened, has_net, hash_of, listed, top_level
from velodrome.search.constraints import Condition, Constraint
from velodrome.search.domains import Choice, Domain, flat, read_domain
from velodrome.types import Params, ParamValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from velodrome.search.arch.conditions import Placed
    from velodrome.search.arch.graph import Graph
    from velodrome.search.arch.net import Net

MAX_TRIES = 1_000
"""How many configurations are drawn before a constraint counts as one that nothing meets."""


class Space:
    """Parameters by name.

    Args:
        domains: Name to domain, for names that are no Python identifiers. A ``Net`` stands for all its parameters.
        constraints: Conditions that a configuration must meet, as ``Constraint`` or as text; one alone needs no list.
        named: Further domains by keyword.

    Raises:
        SpaceError: If a domain or a constraint makes no sense; it names the parameter.
    """

    __slots__ = (
        "_coders", "_columns", "_conditions", "_constraints", "_decoders", "_domains", "_hash_order", "_nets", "_roots",
    )

    def __init__(
        self, domains: Mapping[str, Domain | Net] | None = None, /, *,
        constraints: Iterable[Constraint | str] | Constraint = (), **named: Domain | Net,
    ) -> None:
        self._roots = top_level(domains or {}, named)
        self._columns = flattened(self._roots)
        self._domains = {c.name: c.domain for c in self._columns}
        texts = (constraints,) if isinstance(constraints, str | Constraint) else constraints
        self._constraints = tuple(c if isinstance(c, Constraint) else Constraint(c) for c in texts)
        self._nets: dict[str, Placed] = {}
        self._conditions: tuple[Condition, ...] = self._constraints
        known: Iterable[str] = self._domains
        if any(map(has_net, self._roots.values())):
            from velodrome.search.arch.conditions import MEASURES, place, with_nets

            self._nets = place(self._roots)
            known = [*self._domains, *MEASURES]
            self._conditions = with_nets(self._constraints, self._nets, self._domains)
        for constraint in self._constraints:
            for name in constraint.names:
                if name not in known:
                    raise SpaceError(
                        f"Constraint {constraint.text!r} names a parameter that the space does not have",
                        given=repr(name), allowed=listed(known), hint=nearest(name, known),
                    )
        self._decoders = [(c.name, c.domain.from_unit) for c in self._columns] if not self.conditions else None
        self._coders: list[tuple[str, Callable[[Any], float]]] = [
            (c.name, c.domain.code if isinstance(c.domain, Choice) else float) for c in self._columns
        ]
        self._hash_order = [(c.name, hash_of(c.name), c.domain.code) for c in sorted(self._columns)]

    # ---- what it is

    @property
    def domains(self) -> Mapping[str, Domain]:
        """Every parameter's domain by its flat name; children come after their parents."""
        return MappingProxyType(self._domains)

    @property
    def conditions(self) -> dict[str, tuple[str, tuple[ParamValue, ...]]]:
        """For each conditional parameter: its parent, and the parent's options under which it is active."""
        found: dict[str, tuple[str, tuple[ParamValue, ...]]] = {}
        for column in self._columns:
            if column.parent >= 0:
                parent = self._columns[column.parent]
                found[column.name] = (parent.name, column.options_of(parent))
        return found

    @property
    def constraints(self) -> tuple[Condition, ...]:
        """The conditions that a configuration must meet: those between parameters, and that its nets can be built."""
        return self._conditions

    @property
    def roots(self) -> Mapping[str, Domain | Net]:
        """The domains and nets at the top level, as they were given."""
        return MappingProxyType(self._roots)

    @property
    def nets(self) -> Mapping[str, Net]:
        """The architectures that are searched, by name; one inside a choice is called ``CHOICE.NAME``."""
        return MappingProxyType({name: placed.net for name, placed in self._nets.items()})

    @property
    def cardinality(self) -> int | None:
        """The number of configurations; None where it has no end. Constraints make it an upper bound."""
        counts = [domain.cardinality for name, root in self._roots.items() for domain in flat(name, root).values()]
        return None if None in counts else math.prod(c for c in counts if c is not None)

    def __len__(self) -> int:
        return len(self._columns)

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Space) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        parts = [f"{name}={domain!r}" if name.isidentifier() else f"**{{{name!r}: {domain!r}}}"
                 for name, domain in self._roots.items()]
        if self._constraints:
            parts.append(f"constraints={[c.text for c in self._constraints]!r}")
        return f"Space({', '.join(parts)})"

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        return Space.from_json, (self.to_json(),)

    @property
    def _identity(self) -> tuple[object, ...]:
        return tuple(self._roots.items()), self._constraints

    # ---- JSON

    def to_json(self) -> dict[str, Any]:
        """The space as JSON: ``{"params": {name: domain}, "constraints": [text]}``."""
        return {"params": {name: domain.to_json() for name, domain in self._roots.items()},
                "constraints": [c.text for c in self._constraints]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        """The space that ``to_json`` wrote.

        Raises:
            SpaceError: If it is no space.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("params"), Mapping):
            raise SpaceError("This JSON is no search space", given=repr(data),
                             allowed='{"params": {...}, "constraints": [...]}')
        domains = {name: read_domain(domain, name) for name, domain in data["params"].items()}
        return cls(domains, constraints=data.get("constraints", ()))

    # ---- configurations

    def sample(self, rng: np.random.Generator) -> Params:
        """A random configuration, uniform over the unit cube where the constraints hold.

        Raises:
            SpaceError: If ``MAX_TRIES`` draws in a row break a constraint.
        """
        count = len(self._columns)
        if not self._conditions:
            return self._decode(rng.random(count).tolist())
        broken = dict.fromkeys(self._conditions, 0)
        for _ in range(MAX_TRIES):
            params = self._decode(rng.random(count).tolist())
            first = self.violated(params)
            if first is None:
                return params
            broken[first] += 1
        raise self.unsatisfied(max(broken, key=broken.__getitem__), MAX_TRIES)

    def violated(self, params: Params) -> Condition | None:
        """The first constraint that the configuration breaks, or None."""
        for constraint in self._conditions:
            if not constraint.holds(params):
                return constraint
        return None

    def unsatisfied(self, constraint: Condition, tries: int) -> SpaceError:
        """The error to raise when ``tries`` configurations in a row broke a constraint, this one most of all."""
        return SpaceError(
            f"No configuration was found that meets the constraints: {tries:,} tries in a row broke one",
            given=repr(constraint.text), allowed="constraints that more than a tiny part of the space meets",
            hint=constraint.advice(),
        )

    def contains(self, params: Mapping[str, object]) -> bool:
        """Whether this is a configuration of the space."""
        try:
            self.check(params)
        except SpaceError:
            return False
        return True

    def check(self, params: Mapping[str, object]) -> None:
        """Does nothing if this is a configuration of the space.

        Raises:
            SpaceError: With the parameter, what was given and what is allowed.
        """
        for name in params:
            if name not in self._domains:
                raise SpaceError(f"The space has no parameter {name!r}", given=repr(dict(params)),
                                 allowed=listed(self._domains), hint=nearest(str(name), self._domains))
        valid = checked(self._columns, params)
        broken = self.violated(valid)
        if broken is not None:
            raise broken.broken_by(valid)

    # ---- as numbers

    def from_unit(self, u: Sequence[float] | NDArray[np.float64]) -> Params:
        """The configuration at a point of the unit cube [d], d = ``len(space)``. Constraints are not looked at."""
        return self._decode([float(x) for x in u])

    def to_unit(self, params: Params) -> NDArray[np.float64]:
        """The configuration as a point of the unit cube, float64 [d]; inactive coordinates are 0.5."""
        import numpy as np

        u = [c.domain.to_unit(params[c.name]) if c.name in params else 0.5 for c in self._columns]
        return np.array(u, np.float64)

    def to_row(self, params: Params) -> list[float]:
        """The configuration as raw codes [d]: a number as it is, an option by its index, NaN where inactive.

        Not handled: values outside their domain; ``check`` them first.
        """
        return [code(params[name]) if name in params else math.nan for name, code in self._coders]

    def from_row(self, row: Sequence[float] | NDArray[np.float64]) -> Params:
        """The configuration that ``to_row`` wrote, exactly."""
        return {c.name: c.domain.decode(code) for c, code in zip(self._columns, row, strict=True) if code == code}

    def key(self, params: Params) -> int:
        """A hash of the configuration in [0, 2**64), the same for every order of its names, on every machine."""
        digest = blake2b(digest_size=8)
        for name, name_hash, code in self._hash_order:
            if name in params:
                digest.update(struct.pack("<Qd", name_hash, code(params[name]) + 0.0))  # + 0.0 turns -0.0 into 0.0
        return int.from_bytes(digest.digest(), "little")

    # ---- architectures

    def active_nets(self, params: Mapping[str, ParamValue]) -> dict[str, Net]:
        """Those nets that a configuration has, by name: all but those inside options that are not chosen."""
        from velodrome.search.arch.conditions import active

        return active(self._nets, params)

    def graph(self, params: Mapping[str, ParamValue], name: str | None = None) -> Graph:
        """The net of a configuration, node by node.

        Args:
            params: The configuration.
            name: Which net, where the configuration has several.

        Raises:
            SpaceError: If the space has no such net, or several and no name, or the configuration has not this one.
        """
        found = self.active_nets(params)
        if (name or len(found) != 1) and name not in found:
            raise SpaceError("Which net is meant?" if found and not name else "The configuration has no such net",
                             given=repr(name) if name else "no name", allowed=listed(found),
                             hint=nearest(name or "", found))
        at = name or next(iter(found))
        return found[at].graph(params, at)

    def structure(self, params: Params) -> str:
        """A hash that is the same for configurations with isomorphic nets whose other parameters are the same.

        Raises:
            ArchitectureError: If a net can't be measured; it names the node.
        """
        if not self._nets:
            return str(self.key(params))
        nets = self.active_nets(params)
        inside = tuple(f"{name}." for name in nets)
        rest = {name: value for name, value in params.items() if not name.startswith(inside)}
        return ",".join([str(self.key(rest)), *(net.graph(params, name).key() for name, net in nets.items())])

    def build(self, params: Mapping[str, ParamValue], name: str | None = None) -> nn.Module:
        """The net of a configuration as a module, with freshly drawn weights; ``name`` as for ``graph``.

        Raises:
            SpaceError: As ``graph``.
            ArchitectureError: If it can't be built; it names the node.
        """
        from velodrome.search.arch.build import build

        return build(self.graph(params, name))

    # ---- changes

    def with_domain(self, name: str, domain: Domain) -> Space:
        """A new space in which ``name`` has this domain; a new name comes last.

        Raises:
            SpaceError: If the domain makes no sense, or if the name belongs to a branch of a choice.
        """
        if name in self._domains and name not in self._roots:
            raise SpaceError(f"Parameter {name!r} is inside a choice and can't be changed alone", given=repr(domain),
                             allowed=listed(self._roots))
        return Space({**self._roots, name: domain}, constraints=self._constraints)

    def diff(self, other: Space) -> list[str]:
        """What changed from this space to the other, one line each; empty where they are equal."""
        return changes(
            self._roots, other._roots, [c.text for c in self._constraints], [c.text for c in other._constraints]
        )

    def _decode(self, u: list[float]) -> Params:
        if self._decoders is not None:
            return {name: decode(x) for (name, decode), x in zip(self._decoders, u, strict=True)}
        return decoded(self._columns, u)
