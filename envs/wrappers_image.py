"""Images made smaller: grey scale and resizing, in NumPy alone.

Gymnasium's own are not used: its grey scale computes in float64 (0.8 ms for a frame of Atari, 0.03 ms here), and its
resizing needs OpenCV. The results agree with theirs to one grey level.

This module needs Gymnasium when it is imported, so it is imported where an environment is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from velodrome.envs.adapter_errors import EnvError

Array = np.ndarray[Any, np.dtype[Any]]

LUMA = np.array([0.2125, 0.7154, 0.0721], np.float32)
"""Weights of red, green and blue (Rec. 709), as in Gymnasium."""


class GreyScale(gym.ObservationWrapper[Any, Any, Any]):
    """Turns ``[H, W, 3]`` uint8 into ``[H, W]`` uint8."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        shape = _image_shape(env, "grey_scale")
        if len(shape) != 3 or shape[2] != 3:
            raise EnvError("grey_scale needs colour images", given=str(shape), allowed="[height, width, 3]")
        self.observation_space = gym.spaces.Box(0, 255, shape[:2], np.uint8)

    def observation(self, observation: Array) -> Array:
        """The brightness, rounded down."""
        grey: Array = (observation.astype(np.float32) @ LUMA).astype(np.uint8)
        return grey


class Resize(gym.ObservationWrapper[Any, Any, Any]):
    """Turns ``[H, W]`` or ``[H, W, C]`` uint8 into ``height`` x ``width``: a pixel is the mean of the area it covers.

    The same as OpenCV's ``INTER_AREA`` where the image gets smaller; it can't get larger.
    """

    def __init__(self, env: gym.Env[Any, Any], height: int = 84, width: int = 84) -> None:
        super().__init__(env)
        shape = _image_shape(env, "resize")
        if not (0 < height <= shape[0] and 0 < width <= shape[1]):
            raise EnvError("resize makes images smaller", given=f"{shape[0]} x {shape[1]} to {height} x {width}",
                           allowed=f"up to {shape[0]} x {shape[1]}")
        self.observation_space = gym.spaces.Box(0, 255, (height, width, *shape[2:]), np.uint8)
        tail = (1,) * (len(shape) - 2)
        self._rows, weights = area_taps(shape[0], height)
        self._row_weights = weights.reshape(-1, height, 1, *tail)
        self._columns, weights = area_taps(shape[1], width)
        self._column_weights = weights.reshape(-1, 1, width, *tail)

    def observation(self, observation: Array) -> Array:
        """The smaller image, rounded to the nearest grey level."""
        image = observation.astype(np.float32)
        lower = image[self._rows[0]] * self._row_weights[0]
        for rows, weights in zip(self._rows[1:], self._row_weights[1:], strict=True):
            lower += image[rows] * weights
        small = lower[:, self._columns[0]] * self._column_weights[0]
        for columns, weights in zip(self._columns[1:], self._column_weights[1:], strict=True):
            small += lower[:, columns] * weights
        small += 0.5
        out: Array = small.astype(np.uint8)
        return out


def area_taps(old: int, new: int) -> tuple[Array, Array]:
    """Which of ``old`` pixels each of ``new`` <= old pixels is the mean of.

    Returns:
        Their indices and weights, both ``[taps, new]``; the weights of one new pixel sum to 1, unused taps have 0.
    """
    edges = np.arange(new + 1) * (old / new)
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.where(overlap > 1e-9, overlap, 0.0) * (new / old)
    num_taps = int((overlap > 0).sum(axis=1).max())
    first = (overlap > 0).argmax(axis=1)
    indices = np.minimum(first + np.arange(num_taps)[:, None], old - 1)
    weights = np.take_along_axis(overlap, indices.T, axis=1).T
    weights[1:][indices[1:] == indices[:-1]] = 0.0
    return indices, weights.astype(np.float32)


def _image_shape(env: gym.Env[Any, Any], name: str) -> tuple[int, ...]:
    space = env.observation_space
    if not isinstance(space, gym.spaces.Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3):
        raise EnvError(f"{name} needs images", given=str(space),
                       allowed="Box of uint8, [height, width] or [height, width, channels]")
    return space.shape
