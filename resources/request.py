"""What one trial asks for. Counted in integers: cores, thousandths of a GPU, bytes."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from functools import partial

from velodrome.errors import UsageError, nearest

AUTO_GPU = -1
"""``gpu_millis``: a GPU where the machine has one, the CPU where it has none."""

_UNITS = {"": 1, "B": 1} | {
    unit: base**power
    for power, letter in enumerate("KMGT", start=1)
    for unit, base in ((f"{letter}B", 1000), (f"{letter}iB", 1024), (letter, 1024))
}
_ALLOWED = "cpus=N, gpu=N or gpu=auto (parts such as 0.5 are fine), memory=SIZE, gpu_memory=SIZE, with commas between"


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What one trial needs to run.

    Attributes:
        cpus: Cores, at least 1.
        gpu_millis: Thousandths of a GPU: a part of one (500), or whole ones (1000, 2000); ``AUTO_GPU`` for one where
            there is one. Nobody enforces a part: it only says how many trials share the GPU.
        gpu_memory_bytes: Memory that must be free on each GPU of the trial, for each trial there.
        memory_bytes: Memory of the trial's process, which is held to it; 0 where unsaid.
        custom: Names and amounts of resources that the settings for sharing name, such as licences.

    Raises:
        UsageError: If a number is negative or not a whole one, or a GPU part above 1 is not whole.
    """

    cpus: int = 1
    gpu_millis: int = 0
    gpu_memory_bytes: int = 0
    memory_bytes: int = 0
    custom: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        counts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "custom"}
        for name, value in (counts | dict(self.custom)).items():
            least = {"cpus": 1, "gpu_millis": AUTO_GPU}.get(name, 0)
            if type(value) is not int or value < least:
                raise UsageError(
                    f"A resource request has an impossible {name}", given=repr(value),
                    allowed=f"a whole number, {max(least, 0)} or more",
                )
        if self.gpu_millis > 1000 and self.gpu_millis % 1000:
            raise UsageError(
                "A resource request asks for GPUs and a part of one", given=f"gpu={self.gpu_millis / 1000:g}",
                allowed="a part of one GPU (0.5), or whole ones (1, 2, ...)",
            )
        if self.gpu_memory_bytes and not self.gpu_millis:
            raise UsageError(
                "A resource request asks for GPU memory and no GPU", given=f"gpu_memory={self.gpu_memory_bytes}, gpu=0",
                hint="add gpu=1, gpu=0.5 or gpu=auto",
            )

    @classmethod
    def parse(cls, text: str, custom: Collection[str] = ()) -> ResourceRequest:
        """The request that a text such as ``"cpus=2,gpu=0.5,memory=4GiB"`` means; what is not named is as by default.

        Args:
            text: The request.
            custom: Which other resources there are.

        >>> ResourceRequest.parse("cpus=2,gpu=0.5,memory=4GiB")
        ResourceRequest(cpus=2, gpu_millis=500, gpu_memory_bytes=0, memory_bytes=4294967296, custom=())

        Raises:
            UsageError: If a name is unknown or given twice, or a value is not understood.
        """
        parsers = {
            "cpus": ("cpus", _parse_count), "gpu": ("gpu_millis", parse_gpu_millis),
            "gpu_memory": ("gpu_memory_bytes", parse_bytes), "memory": ("memory_bytes", parse_bytes),
        }
        values: dict[str, int] = {}
        others: dict[str, int] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, sign, value = (p.strip() for p in part.partition("="))
            if not sign or (name not in parsers and name not in custom):
                raise UsageError(
                    "A resource request is not understood", given=repr(part),
                    allowed="; ".join([_ALLOWED, *(f"{other}=N" for other in custom)]),
                    hint=nearest(name, [*parsers, *custom])
                    or "something else is counted where ledger.toml, or a node of the Ray cluster, names it",
                )
            field, parser = parsers.get(name, (name, partial(_parse_count, what=name)))
            if field in values or field in others:
                raise UsageError(f"A resource request names {name} twice", given=repr(text), allowed="each name once")
            (values if name in parsers else others)[field] = parser(value)
        return cls(**values, custom=tuple(sorted(others.items())))

    def __str__(self) -> str:
        gpu = "auto" if self.gpu_millis == AUTO_GPU else f"{self.gpu_millis / 1000:g}"
        parts = [f"cpus={self.cpus}", f"gpu={gpu}" if self.gpu_millis else ""]
        parts += [f"gpu_memory={format_bytes(self.gpu_memory_bytes)}" if self.gpu_memory_bytes else ""]
        parts += [f"memory={format_bytes(self.memory_bytes)}" if self.memory_bytes else ""]
        parts += [f"{name}={amount}" for name, amount in self.custom]
        return ",".join(filter(None, parts))


def parse_bytes(text: str) -> int:
    """The bytes that a size such as ``"4GiB"``, ``"1.5G"`` or ``"500MB"`` means: B, KB (1000), KiB or K (1024) and on.

    >>> parse_bytes("1.5 KiB")
    1536

    Raises:
        UsageError: If the text is no size, or no whole number of bytes.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    units = {unit.lower(): size for unit, size in _UNITS.items()}
    if match and match[2].lower() in units:
        amount = Decimal(match[1]) * units[match[2].lower()]
        if amount == int(amount):
            return int(amount)
    raise UsageError(
        "A size is not understood", given=repr(text), allowed="a number and a unit: 500MB, 4GiB, 1.5G, or bytes",
    )


def format_bytes(amount: int) -> str:
    """The size in the largest binary unit that makes it 1 or more, to one decimal: ``"23.4 GiB"``, ``"512 B"``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(max(amount.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{amount / 1024**power:.1f}".removesuffix(".0") + f" {units[power]}"


def parse_gpu_millis(text: str) -> int:
    """Thousandths of a GPU: ``"0.5"`` is 500, ``"auto"`` is ``AUTO_GPU``.

    Raises:
        UsageError: If the text is neither ``auto`` nor a number with at most three decimals.
    """
    if text.lower() == "auto":
        return AUTO_GPU
    try:
        millis = Decimal(text) * 1000
    except InvalidOperation:
        millis = Decimal("NaN")
    if not millis.is_finite() or millis < 0 or millis != int(millis):
        raise UsageError(
            "A number of GPUs is not understood", given=repr(text),
            allowed="auto, 0, a part of one GPU to three decimals (0.5), or whole ones (1, 2, ...)",
        )
    return int(millis)


def _parse_count(text: str, what: str = "cores") -> int:
    if not (text.isascii() and text.isdecimal()):
        least = 1 if what == "cores" else 0
        raise UsageError(
            f"A number of {what} is not understood", given=repr(text), allowed=f"a whole number, {least} or more"
        )
    return int(text)
