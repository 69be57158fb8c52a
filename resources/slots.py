"""One worker's share of the machine, as the allocator gives it and an executor uses it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Slot:
    """What one worker may use; made by ``resources``.

    Attributes:
        index: The worker's number, from 0.
        threads: How many threads its libraries may start.
        device: ``"cpu"`` or ``"cuda"``: what ``trial.device`` says inside the worker.
        label: The device as a person calls it, such as ``"cuda:3"``.
        env: Environment variables of the worker (``CUDA_VISIBLE_DEVICES`` and the like).
        memory_bytes: Limit on the worker's private memory; 0 for none.
        gpu_memory_part: The part of each GPU's memory that CUDA's allocator is held to; 1 for all.
        may_grow: Whether that part was chosen by measurement: a trial that needs more is started again with more.
    """

    index: int
    threads: int = 1
    device: str = "cpu"
    label: str = "cpu"
    env: dict[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    gpu_memory_part: float = 1.0
    may_grow: bool = False
