"""Whether a convolutional network learns in float32 or in bfloat16: what is quicker on this machine, by measurement.

In bfloat16 the layers of the trunk compute with 8 bits of mantissa; weights, their gradients, the heads and the losses
stay in float32 (mixed precision without loss scaling: Kalamkar et al. 2019, "A Study of BFLOAT16"). Processors with AMX
and GPUs are two to three times as quick that way; some that have bfloat16 instructions are slower than in float32, so
that their name does not tell.
"""

from __future__ import annotations

import time

import torch

from velodrome.rl.policy import ImageTrunk

_NUM_IMAGES, _NUM_TIMINGS = 64, 3
_GAIN = 1.2
"""So many times as quick bfloat16 has to be."""


def choose_precision(wanted: str, trunk: ImageTrunk, device: torch.device) -> str:
    """``float32`` or ``bfloat16``; nothing else changes. A probe takes about a second.

    Args:
        wanted: One of both, or ``auto``: on a GPU bfloat16 where it has it, on a CPU what a probe of the trunk says.
        trunk: What computes.
        device: Where.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return "float32"  # emulated, it takes minutes
    before, times = trunk.precision, {}
    for precision in ("float32", "bfloat16"):
        trunk.precision = precision
        times[precision] = _learning_time_s(trunk)
    trunk.precision = before
    return "bfloat16" if times["float32"] > _GAIN * times["bfloat16"] else "float32"


def _learning_time_s(trunk: ImageTrunk) -> float:
    """The shortest time of a pass there and back, after one to warm up."""
    channels, height, width = trunk.shape
    images = torch.zeros(_NUM_IMAGES, height, width, channels, dtype=torch.uint8)
    parameters, times = list(trunk.parameters()), []
    for _ in range(1 + _NUM_TIMINGS):
        began = time.perf_counter()
        torch.autograd.grad(trunk(images).sum(), parameters)
        times.append(time.perf_counter() - began)
    return min(times[1:])
