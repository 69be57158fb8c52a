"""Where a network learns, and on how many threads."""

from __future__ import annotations

import torch


def learning_device(wanted: str, given: str, threads: int, *, is_image: bool) -> torch.device:
    """Where to learn; sets torch's threads as well.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``: auto takes a GPU for images alone, where it pays.
        given: The trial's device.
        threads: Torch's threads; 0 for one with vectors, as many as the trial has with images.
        is_image: Whether observations are images.
    """
    if threads or not is_image:
        # A small network is quickest on one thread, and then a run does not depend on who else is at work.
        torch.set_num_threads(threads or 1)
    if wanted == "auto":
        return torch.device(given if is_image else "cpu")
    return torch.device(wanted)
