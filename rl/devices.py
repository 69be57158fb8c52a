"""Where a network learns, and on how many threads."""

from __future__ import annotations

import gc
import hashlib

import torch
from torch import Generator, Tensor

from velodrome.errors import UsageError


def learning_device(wanted: str, given: str, threads: int, *, is_image: bool, pays: bool = False) -> torch.device:
    """Where to learn; sets torch's threads as well.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``: auto takes a GPU where it pays, for images and large networks.
        given: The trial's device.
        threads: Torch's threads; 0 for one with vectors, as many as the trial has with images.
        is_image: Whether observations are images.
        pays: Whether a GPU is quicker without images, too.

    Raises:
        UsageError: If a GPU is wanted and there is none.
    """
    if threads or not is_image:
        # A small network is quickest on one thread, and then a run does not depend on who else is at work.
        torch.set_num_threads(threads or 1)
    device = torch.device((given if is_image or pays else "cpu") if wanted == "auto" else wanted)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("There is no GPU to learn on", given="device=cuda", allowed="auto or cpu, here",
                             hint="--resources gpu=1 asks for a GPU, where the machine has one that torch can use")
        gc.collect()  # a learner and its recordings hold each other: those of a run before leave the GPU now
        torch.backends.cuda.matmul.fp32_precision = "ieee"  # what another run in this process left is not this one's
        torch.backends.cudnn.deterministic = True  # a seed gives the same run, and a resumed run is the undisturbed one
    return device


def resume_draws(generator: Generator, state: Tensor) -> None:
    """Goes on with the stream of random numbers that ``generator.get_state()`` gave ``state`` of.

    A state that was made on another kind of device can't be gone on from: it is the seed of a new stream then.
    """
    if len(state) == len(generator.get_state()):
        generator.set_state(state)
    else:
        digest = hashlib.sha256(state.numpy().tobytes()).digest()
        generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
