"""What a training run chose by itself, and why: its device, its threads, its precision, how its environments step.

Each can be pinned by the setting of that name (``-p device=cpu``); a choice that was made here says so, and one that
was given says that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from velodrome.rl.policy import ImageTrunk
from velodrome.rl.squashed_policy import BoundedPolicy


def choices(config: Any, mode: str, policy: nn.Module, env_source: str) -> Iterator[tuple[str, str]]:
    """The choices of a run, each with what was chosen and the reason.

    Args:
        config: The algorithm's settings, with ``device``, ``threads`` and, where there is a choice, ``precision``.
        mode: How environments were to be stepped.
        policy: On the device where it learns.
        env_source: What steps the environments, in the words of ``EnvBatch.source``.
    """
    trunk = next((module for module in policy.modules() if isinstance(module, ImageTrunk)), None)
    device, threads = next(policy.parameters()).device.type, torch.get_num_threads()
    if config.device != "auto":
        yield "device", f"{device}: as given"
    elif trunk is not None:
        yield "device", f"{device}: that of the trial, for images"
    elif hasattr(config, "gpu_pays_for"):
        yield "device", f"{device}: that of the trial, for large networks and batches"
    else:
        yield "device", f"{device}: for vectors a GPU gains too little"
    if getattr(policy, "is_side_by_side", False):
        why = "as given" if config.threads else "the trial has them, and minibatches are large"
        yield "threads", f"2, policy and value on one each: {why}"
    elif config.threads:
        yield "threads", f"{threads}: as given"
    elif trunk is None:
        yield "threads", f"{threads}: a small network is quickest on one"
    else:
        yield "threads", f"{threads}: as many as the trial has, for images"
    computes: Any = trunk
    if isinstance(policy, BoundedPolicy):
        computes = next(part for part in policy.modules() if hasattr(part, "precision"))
    if computes is not None:
        why = "as given" if config.precision != "auto" else "the quicker one on this device"
        yield "precision", f"{computes.precision}: {why}"
    yield "environments", f"{env_source}: {'as given' if mode != 'auto' else 'the quickest way here'}"
