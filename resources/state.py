"""All that a decision about a shared machine looks at, as values: tenants, studies, leases, rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from velodrome.resources.amounts import Amounts
from velodrome.resources.demand import Demand


class Priority(StrEnum):
    """How a study's leases stand to those of others.

    ``guaranteed``: within the tenant's guarantee they come first and are never asked back; beyond it, as normal.
    ``normal``: fair share. ``opportunistic``: what nobody else wants, given back first, not counted as usage.
    """

    GUARANTEED = "guaranteed"
    NORMAL = "normal"
    OPPORTUNISTIC = "opportunistic"


@dataclass(frozen=True, slots=True)
class Rules:
    """How the machine is shared.

    Attributes:
        half_life_s: After so many seconds, what somebody used counts half.
        quantum_s: For so long a lease is not asked back, but for a guarantee or from an opportunistic study; and as
            far ahead the fair shares are looked at.
        grace_s: For so long a running trial may go on once its slot is asked back.
    """

    half_life_s: float = 3600.0
    quantum_s: float = 30.0
    grace_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody who shares the machine, as a rule a user.

    Attributes:
        name: The login name, or what ``VELODROME_TENANT`` says.
        weight: What part of the machine is due, beside the others' weights.
        guarantee: The part of the machine (0 to 1) that guaranteed leases may take at any time.
        max: The part of the machine that is never exceeded.
        usage: Decayed usage, in seconds of the whole machine.
    """

    name: str
    weight: float = 1.0
    guarantee: float = 0.0
    max: float = 1.0
    usage: float = 0.0


@dataclass(frozen=True, slots=True)
class Sharer:
    """A study that runs, and how much it wants.

    Attributes:
        id: Its number in the ledger.
        tenant: Whose it is.
        name: The study's name.
        priority: Its class.
        demand: What each of its slots needs.
        view: What of the machine its process may use.
        wanted: How many slots it can use now.
        since: When it began to want more than it has, or when it came.
        usage: Decayed usage, in seconds of the whole machine.
        is_stopped: Whether its process is stopped (Ctrl-Z): it gets nothing more then.
    """

    id: int
    tenant: str
    name: str
    priority: Priority
    demand: Demand
    view: Amounts
    wanted: int
    since: float
    usage: float = 0.0
    is_stopped: bool = False

    @property
    def is_opportunistic(self) -> bool:
        """Whether it only takes what nobody else wants."""
        return self.priority is Priority.OPPORTUNISTIC

    def __str__(self) -> str:
        return f"{self.tenant}/{self.name}"


@dataclass(frozen=True, slots=True)
class Lease:
    """One slot that a study holds.

    Attributes:
        token: Higher than that of every lease before it.
        sharer: The study's number in the ledger.
        amounts: What it takes.
        since: When it was granted, in seconds since the epoch.
        back_by: Until when it is to be given back; None where it was not asked back.
        back_reason: Why.
    """

    token: int
    sharer: int
    amounts: Amounts
    since: float
    back_by: float | None = None
    back_reason: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The machine and all who share it, at one moment."""

    now: float
    capacity: Amounts
    tenants: dict[str, Tenant]
    sharers: tuple[Sharer, ...]
    leases: tuple[Lease, ...]
    rules: Rules = field(default_factory=Rules)
