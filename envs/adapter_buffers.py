"""The arrays through which environments and learner meet: written by whoever steps, read through views.

They live in this process, or in memory that worker processes share. One allocation, every array on a cache line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.env_batch import Step

Array = np.ndarray[Any, np.dtype[Any]]

_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What N environments exchange with their learner.

    Attributes:
        num_envs: N.
        obs: An observation's place in a row.
        action: What an action is.
        has_mask: Whether the infos bring an ``action_mask``.
        info_keys: Names of the numbers in the infos that are kept.
    """

    num_envs: int
    obs: ObsLayout
    action: ActionLayout
    has_mask: bool
    info_keys: tuple[str, ...]

    @property
    def mask_size(self) -> int:
        """Columns of the action mask; 0 without one."""
        return sum(self.action.sizes) if self.has_mask else 0

    @property
    def num_bytes(self) -> int:
        """Memory that the buffers take."""
        return sum(_rounded(int(np.prod(shape)) * np.dtype(dtype).itemsize) for _, dtype, shape in self._arrays())

    def _arrays(self) -> list[tuple[str, Any, tuple[int, ...]]]:
        n = self.num_envs
        return [
            ("obs", self.obs.dtype, (n, *self.obs.shape)),
            ("final_obs", self.obs.dtype, (n, *self.obs.shape)),
            ("actions", self.action.dtype, (n, *self.action.shape)),
            ("reward", np.float64, (n,)),
            ("terminated", np.bool_, (n,)),
            ("truncated", np.bool_, (n,)),
            ("valid", np.bool_, (n,)),
            ("episode_done", np.bool_, (n,)),
            ("episode_return", np.float64, (n,)),
            ("episode_length", np.int64, (n,)),
            ("action_mask", np.bool_, (n, self.mask_size)),
            ("infos", np.float64, (len(self.info_keys), n)),
        ]


@dataclass(frozen=True, slots=True)
class Buffers:
    """The arrays of ``Step``, for all N environments, and the actions they are to take."""

    obs: Array
    final_obs: Array
    actions: Array
    reward: Array
    terminated: Array
    truncated: Array
    valid: Array
    episode_done: Array
    episode_return: Array
    episode_length: Array
    action_mask: Array
    infos: Array

    @classmethod
    def allocate(cls, spec: BatchSpec, memory: Any = None) -> Buffers:
        """The arrays in ``memory`` (a writable buffer of ``spec.num_bytes``), or in new memory of this process."""
        whole = np.zeros(spec.num_bytes, np.uint8) if memory is None else np.frombuffer(memory, np.uint8)
        arrays, start = {}, 0
        for name, dtype, shape in spec._arrays():
            num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            arrays[name] = whole[start : start + num_bytes].view(dtype).reshape(shape)
            start += _rounded(num_bytes)
        return cls(**arrays)

    def step_view(self, rows: slice, spec: BatchSpec) -> Step:
        """These rows as a ``Step``: views, so one made now shows every later step."""
        return Step(
            obs=self.obs[rows], reward=self.reward[rows], terminated=self.terminated[rows],
            truncated=self.truncated[rows], final_obs=self.final_obs[rows], valid=self.valid[rows],
            episode_done=self.episode_done[rows], episode_return=self.episode_return[rows],
            episode_length=self.episode_length[rows],
            action_mask=self.action_mask[rows] if spec.has_mask else None,
            infos={key: self.infos[k, rows] for k, key in enumerate(spec.info_keys)},
        )


def row_views(array: Array) -> Sequence[Array]:
    """Each row of an array as a view that can be assigned to, also where rows are scalars."""
    return [array[i : i + 1].reshape(array.shape[1:]) for i in range(len(array))]


def _rounded(num_bytes: int) -> int:
    return -(-num_bytes // _LINE_BYTES) * _LINE_BYTES
