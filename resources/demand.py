"""What one worker slot needs, and where on the machine it fits: best fit, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from velodrome.resources import amounts as am
from velodrome.resources.amounts import Amounts
from velodrome.resources.request import ResourceRequest, format_bytes


@dataclass(frozen=True, slots=True)
class Demand:
    """What one slot needs; a slot with several GPUs gets all of them at once or none.

    Attributes:
        core_millis: Thousandths of a core.
        memory_bytes: Memory.
        num_gpus: On how many GPUs.
        gpu_millis: Thousandths of each.
        gpu_memory_bytes: Memory on each.
        custom: Names and amounts of other resources.
    """

    core_millis: int = am.WHOLE
    memory_bytes: int = 0
    num_gpus: int = 0
    gpu_millis: int = 0
    gpu_memory_bytes: int = 0
    custom: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, request: ResourceRequest, cpus: int, workers: int) -> Demand:
        """The demand of each of a study's workers.

        More workers than the cores are enough for, which a user may ask for, share them: each counts as a part.

        Args:
            request: What a trial asks for, ``gpu=auto`` settled.
            cpus: The cores that the process may use.
            workers: How many workers the study is to have at most.
        """
        millis = min(request.cpus * am.WHOLE, max(1, cpus * am.WHOLE // max(1, workers)))
        num_gpus = max(1, request.gpu_millis // am.WHOLE) if request.gpu_millis > 0 else 0
        return cls(
            millis, request.memory_bytes, num_gpus, min(request.gpu_millis, am.WHOLE) if num_gpus else 0,
            request.gpu_memory_bytes, request.custom,
        )

    def fixed(self) -> dict[str, int]:
        """What is needed wherever it is: all but GPUs."""
        found = {am.CORES: self.core_millis, am.MEMORY: self.memory_bytes}
        found |= {am.CUSTOM + name: amount for name, amount in self.custom}
        return {name: amount for name, amount in found.items() if amount}

    def on(self, uuids: Sequence[str]) -> dict[str, int]:
        """All that is needed, on these GPUs."""
        found = self.fixed()
        for uuid in uuids:
            found[am.GPU + uuid] = self.gpu_millis
            if self.gpu_memory_bytes:
                found[am.GPU_MEMORY + uuid] = self.gpu_memory_bytes
        return found

    def place(self, free: Amounts) -> dict[str, int] | None:
        """What the slot takes of what is free, or None where it does not fit.

        Best fit: of the GPUs with room, those that are left with the least, so that whole ones stay whole.
        """
        if not am.fit(self.fixed(), free):
            return None
        if not self.num_gpus:
            return self.fixed()
        fitting = [uuid for uuid in am.gpus_in(free) if self.fits_gpu(uuid, free)]
        if len(fitting) < self.num_gpus:
            return None
        fitting.sort(key=lambda uuid: (free[am.GPU + uuid], free.get(am.GPU_MEMORY + uuid, 0)))
        return self.on(fitting[: self.num_gpus])

    def fits_gpu(self, uuid: str, free: Amounts) -> bool:
        """Whether that GPU has room for its part of the slot."""
        return (
            free.get(am.GPU + uuid, 0) >= self.gpu_millis
            and free.get(am.GPU_MEMORY + uuid, 0) >= self.gpu_memory_bytes
        )

    def to_json(self) -> str:
        """As the ledger keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Demand:
        """What ``to_json`` made."""
        values = json.loads(text)
        return cls(**{**values, "custom": tuple((name, amount) for name, amount in values["custom"])})

    def __str__(self) -> str:
        parts = [_count(self.core_millis / am.WHOLE, "core")]
        if self.num_gpus:
            parts.append(_count(self.num_gpus * self.gpu_millis / am.WHOLE, "GPU"))
        if self.gpu_memory_bytes:
            parts.append(f"{format_bytes(self.gpu_memory_bytes)} of GPU memory")
        if self.memory_bytes:
            parts.append(f"{format_bytes(self.memory_bytes)} of memory")
        return ", ".join([*parts, *(f"{amount} {name}" for name, amount in self.custom)])


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number <= 1 else 's'}"
