"""The settings for sharing a machine: a TOML file beside the ledger, for whoever looks after the machine.

``ledger.toml`` beside ``ledger.db``, every table and every name optional::

    [sharing]
    quantum_s = 30          # a slot stays with its study for so long at least
    grace_s = 60            # and a running trial may go on for so long once it is asked back
    half_life_s = 3600      # after so long, what somebody used counts half

    [resources]
    licences = 4            # what else is counted: trials ask for --resources licences=1

    [default]               # everybody who is not named
    weight = 1

    [tenants.ann]
    weight = 3
    guarantee = 0.25        # of the machine, for her guaranteed studies, at any time
    max = 0.75              # of the machine, never exceeded
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from velodrome.errors import UsageError, nearest
from velodrome.resources.state import Rules, Tenant

_TABLES = ("sharing", "resources", "default", "tenants")
_OWN_RESOURCES = ("cpus", "gpu", "gpu_memory", "memory")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file says.

    Attributes:
        rules: How the machine is shared.
        custom: Other resources that are counted, and how much there is of each.
        default: The settings of whoever is not named.
        tenants: Those of the others, by name.
    """

    rules: Rules = field(default_factory=Rules)
    custom: Mapping[str, int] = field(default_factory=dict)
    default: Tenant = field(default_factory=lambda: Tenant(""))
    tenants: Mapping[str, Tenant] = field(default_factory=dict)

    def tenant(self, name: str, usage: float = 0.0) -> Tenant:
        """A tenant with its settings."""
        found = self.tenants.get(name, self.default)
        return Tenant(name, found.weight, found.guarantee, found.max, usage)


def read_settings(path: Path) -> Settings:
    """The settings in a file; the defaults where there is none.

    Raises:
        UsageError: If the file can't be read, or says something that is not understood.
    """
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("The settings for sharing can't be read", given=f"{path}: {error}") from None
    return parse_settings(text, str(path))


def parse_settings(text: str, where: str = "the settings") -> Settings:
    """The settings in a text.

    Raises:
        UsageError: If it is no TOML, or names or values are not understood.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError("The settings for sharing are no TOML", given=f"{where}: {error}") from None
    _check_names(tables, _TABLES, where, "")
    for name in tables:
        _table(tables, name, where, "")
    default = _tenant("", _table(tables, "default", where, ""), Tenant(""), where, "default")
    people = _table(tables, "tenants", where, "")
    tenants = {
        name: _tenant(name, _table(people, name, where, "tenants."), default, where, f"tenants.{name}")
        for name in people
    }
    promised = sum(tenant.guarantee for tenant in tenants.values())
    if promised > 1 + 1e-9 or default.guarantee:
        others = f", and {default.guarantee:g} to each of all others" if default.guarantee else ""
        raise UsageError(
            "More of the machine is guaranteed than there is", given=f"{where}: {promised:g} in all{others}",
            allowed="guarantees that add up to 1 or less, and none in [default]",
        )
    return Settings(_rules(_table(tables, "sharing", where, ""), where), _custom(tables, where), default, tenants)


def _rules(table: Mapping[str, Any], where: str) -> Rules:
    names = [f.name for f in fields(Rules)]
    _check_names(table, names, where, "sharing.")
    found = {name: _number(value, where, f"sharing.{name}", 0.0, math.inf) for name, value in table.items()}
    if "half_life_s" in found and found["half_life_s"] <= 0:
        raise _wrong(where, "sharing.half_life_s", table["half_life_s"], "a number above 0")
    return Rules(**found)


def _custom(tables: Mapping[str, Any], where: str) -> dict[str, int]:
    table = _table(tables, "resources", where, "")
    for name, amount in table.items():
        if name in _OWN_RESOURCES or not name.isidentifier():
            raise UsageError(
                "A resource can't have that name", given=f"{where}: resources.{name}",
                allowed=f"a word of letters, digits and _, but for {', '.join(_OWN_RESOURCES)}",
            )
        if type(amount) is not int or amount < 0:
            raise _wrong(where, f"resources.{name}", amount, "a whole number, 0 or more")
    return dict(table)


def _tenant(name: str, table: Mapping[str, Any], default: Tenant, where: str, at: str) -> Tenant:
    _check_names(table, ("weight", "guarantee", "max"), where, at + ".")
    weight = _number(table.get("weight", default.weight), where, f"{at}.weight", 0.0, math.inf)
    guarantee = _number(table.get("guarantee", default.guarantee), where, f"{at}.guarantee", 0.0, 1.0)
    most = _number(table.get("max", default.max), where, f"{at}.max", 0.0, 1.0)
    if weight <= 0:
        raise _wrong(where, f"{at}.weight", table["weight"], "a number above 0")
    if guarantee > most:
        raise _wrong(where, f"{at}.guarantee", guarantee, f"no more than its max, {most:g}")
    return Tenant(name, weight, guarantee, most)


def _table(tables: Mapping[str, Any], name: str, where: str, prefix: str) -> Mapping[str, Any]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise _wrong(where, prefix + name, table, f"a table: [{prefix}{name}]")
    return table


def _check_names(table: Mapping[str, Any], allowed: Any, where: str, prefix: str) -> None:
    for name in table:
        if name not in allowed:
            raise UsageError(
                "The settings for sharing have a name that means nothing", given=f"{where}: {prefix}{name}",
                allowed=", ".join(allowed), hint=nearest(name, allowed),
            )


def _number(value: Any, where: str, name: str, low: float, high: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or not math.isfinite(value):
        allowed = f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a number, {low:g} or more"
        raise _wrong(where, name, value, allowed)
    return float(value)


def _wrong(where: str, name: str, value: Any, allowed: str) -> UsageError:
    return UsageError("The settings for sharing have an impossible value", given=f"{where}: {name} = {value!r}",
                      allowed=allowed)
