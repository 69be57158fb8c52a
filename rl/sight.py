"""What a policy makes of observations: flat vectors, normalised where asked, or images as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from velodrome.rl.normalize import Moments, ObservationNormalizer

Array = np.ndarray[Any, np.dtype[Any]]


class Sight:
    """From an environment's observations to a network's inputs. Part of the policy: saved and frozen with it.

    A learner that keeps observations for long (a replay buffer) keeps them ``raw`` and normalises a minibatch by all
    that was seen until then; one that does not takes ``see``.

    Args:
        shape: Of one observation.
        is_image: Whether they stay images.
        normalize: Whether vectors are normalised by all that were seen; images never are.
    """

    def __init__(self, shape: tuple[int, ...], *, is_image: bool, normalize: bool) -> None:
        self.shape, self.is_image = shape, is_image
        self._moves_channels = is_image and not has_channels_last(shape)
        self.normalizer: ObservationNormalizer | None = None
        if normalize and not is_image:
            self.normalizer = ObservationNormalizer(Moments.empty((math.prod(shape),)))
        self._on_device: tuple[torch.device, Tensor, Tensor] | None = None

    def raw(self, obs: Array) -> Tensor:
        """Observations ``[B, *shape]`` as images or float32 vectors ``[B, D]``, in memory of their own.

        Images are ``[B, H, W, C]`` whatever the environment gives: moved once here, not in every pass of a learner.
        """
        if self.is_image:
            return torch.from_numpy((obs.transpose(0, 2, 3, 1) if self._moves_channels else obs).copy("C"))
        return torch.from_numpy(obs.reshape(len(obs), -1).astype(np.float32))

    def see(self, obs: Array) -> Tensor:
        """The same, normalised: what networks are given."""
        if self.normalizer is None:
            return self.raw(obs)
        return torch.from_numpy(self.normalizer.normalize(obs.reshape(len(obs), -1)))

    def normalize(self, raw: Tensor) -> Tensor:
        """What ``raw`` gave, normalised by all that was seen so far; on any device."""
        if self.normalizer is None:
            return raw
        if self._on_device is None or self._on_device[0] != raw.device:
            moments = self.normalizer.moments
            scale = 1.0 / np.sqrt(moments.variance + self.normalizer.eps)
            mean_there, scale_there = (
                torch.from_numpy(x.astype(np.float32)).to(raw.device) for x in (moments.mean, scale)
            )
            self._on_device = raw.device, mean_there, scale_there
        _, mean, per_deviation = self._on_device
        return ((raw - mean) * per_deviation).clamp_(-self.normalizer.clip, self.normalizer.clip)

    def learn(self, obs: Array) -> None:
        """Takes observations ``[B, *shape]`` into what is normalised by; nothing where nothing is."""
        if self.normalizer is not None:
            self.normalizer = self.normalizer.update(obs.reshape(len(obs), -1))
            self._on_device = None

    def state(self) -> dict[str, Any] | None:
        """What ``load`` needs."""
        return None if self.normalizer is None else dict(self.normalizer.state())

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Goes on from a state."""
        if self.normalizer is not None and state is not None:
            self.normalizer = ObservationNormalizer.from_state(state)
            self._on_device = None


def has_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether an image's last dimension is its channels: the smallest of the three is, the first where they tie."""
    return shape[2] < shape[0]
