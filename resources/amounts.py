"""Counted resources by name, all in integers, and the one place that gives them their names.

``cores`` in thousandths, ``memory`` in bytes, ``gpu/UUID`` in thousandths of that GPU, ``gpu_memory/UUID`` in bytes,
``custom/NAME`` in whatever its owner counts (licences, robots, slots of a licence server).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from velodrome.resources.inventory import Inventory

Amounts = Mapping[str, int]

CORES = "cores"
MEMORY = "memory"
GPU = "gpu/"
GPU_MEMORY = "gpu_memory/"
CUSTOM = "custom/"
WHOLE = 1000
"""Thousandths of a core, or of a GPU."""


def of_inventory(inventory: Inventory, custom: Amounts | None = None) -> dict[str, int]:
    """All that a machine has, the custom resources of its settings included."""
    amounts = {CORES: inventory.cpus * WHOLE, MEMORY: inventory.memory_bytes}
    for gpu in inventory.gpus:
        amounts[GPU + gpu.uuid] = WHOLE
        amounts[GPU_MEMORY + gpu.uuid] = gpu.memory_bytes
    return amounts | {CUSTOM + name: amount for name, amount in (custom or {}).items()}


def plus(first: Amounts, second: Amounts) -> dict[str, int]:
    """The sum, name by name."""
    total = dict(first)
    for name, amount in second.items():
        total[name] = total.get(name, 0) + amount
    return total


def minus(first: Amounts, second: Amounts) -> dict[str, int]:
    """The difference, name by name; it may be negative."""
    total = dict(first)
    for name, amount in second.items():
        total[name] = total.get(name, 0) - amount
    return total


def least(first: Amounts, second: Amounts) -> dict[str, int]:
    """The smaller amount of each name of the first; what the second does not name is none."""
    return {name: min(amount, second.get(name, 0)) for name, amount in first.items()}


def total(many: Iterable[Amounts]) -> dict[str, int]:
    """The sum of all of them."""
    found: dict[str, int] = {}
    for amounts in many:
        for name, amount in amounts.items():
            found[name] = found.get(name, 0) + amount
    return found


def fit(need: Amounts, free: Amounts) -> bool:
    """Whether there is enough of everything."""
    return all(amount <= free.get(name, 0) for name, amount in need.items() if amount > 0)


def gpus_in(amounts: Amounts) -> list[str]:
    """The UUIDs of the GPUs that are named, in order."""
    return [name.removeprefix(GPU) for name in amounts if name.startswith(GPU)]


def kinds(amounts: Amounts) -> dict[str, int]:
    """The amounts by kind: those of all GPUs together are one."""
    found: dict[str, int] = {}
    for name, amount in amounts.items():
        kind = GPU if name.startswith(GPU) else GPU_MEMORY if name.startswith(GPU_MEMORY) else name
        found[kind] = found.get(kind, 0) + amount
    return found


def dominant_share(held: Amounts, capacity: Amounts) -> float:
    """The largest part of any kind of resource: 1 for all of the machine's cores, or all of its GPUs.

    Ghodsi et al., "Dominant Resource Fairness" (NSDI 2011), section 4.
    """
    whole = kinds(capacity)
    return max((amount / whole[kind] for kind, amount in kinds(held).items() if whole.get(kind, 0) > 0), default=0.0)
