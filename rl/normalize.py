"""Normalising observations and rewards by what has been seen so far: part of the policy, saved and frozen with it.

All of these are values: ``update`` returns a new one and changes nothing. Whoever evaluates keeps the value that it
was given, and training goes on without it. Statistics are float64 in NumPy, where observations come from, and depend on
how the data was cut into batches only by rounding. ``state()`` is a dict of arrays, ``from_state`` its inverse, to
the last bit.

The calling loop, for every step of N environments::

    observations = observations.update(obs)           # when training; not when evaluating
    action = act(observations.normalize(obs))
    obs, r, ... = step(action)
    rewards = rewards.update(r, done)
    store(rewards.normalize(r))                       # report the raw r
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from velodrome.errors import VeloError

Array = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """The count, mean and sum of squared deviations of everything seen (Welford 1962; Chan, Golub and LeVeque 1983).

    Args:
        count: How many samples.
        mean: ``[*shape]``, float64.
        m2: ``[*shape]``, float64: the sum of squared deviations from the mean.
    """

    count: int
    mean: Array
    m2: Array

    @classmethod
    def empty(cls, shape: tuple[int, ...] = ()) -> Moments:
        """Nothing seen yet."""
        return cls(0, np.zeros(shape), np.zeros(shape))

    @property
    def variance(self) -> Array:
        """``[*shape]``, the population's (over n, not n - 1); 1 while nothing was seen."""
        return self.m2 / self.count if self.count else np.ones_like(self.m2)

    def update(self, batch: ArrayLike) -> Moments:
        """The moments of this and a batch ``[..., *shape]`` together; an empty batch changes nothing.

        Raises:
            VeloError: If the batch holds NaN or infinity, which would stay in the mean for ever.
        """
        shape = self.mean.shape
        rows = np.asarray(batch, np.float64).reshape(-1, *shape)
        if len(rows) == 0:
            return self
        mean = rows.mean(0)
        if not np.isfinite(mean).all():
            bad = np.argwhere(~np.isfinite(rows)).tolist()
            given = f"{rows[tuple(bad[0])]} in row {bad[0][0]}, place {bad[0][1:]}" if bad else "a sum that overflows"
            raise VeloError("A number to normalise by is not finite", given=given,
                            allowed="finite observations and rewards", hint="check the environment: velo env check")
        return self.merge(Moments(len(rows), mean, np.square(rows - mean).sum(0)))

    def merge(self, other: Moments) -> Moments:
        """The moments of what either has seen (Chan, Golub and LeVeque 1983, equation 2.1)."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + np.square(delta) * (self.count * (other.count / count))
        return Moments(count, mean, m2)

    def state(self) -> dict[str, NDArray[Any]]:
        """As arrays."""
        return {"count": np.asarray(self.count, np.int64), "mean": self.mean, "m2": self.m2}

    @classmethod
    def from_state(cls, state: State) -> Moments:
        """From ``state()``."""
        return cls(int(state["count"]), np.array(state["mean"], np.float64), np.array(state["m2"], np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class ObservationNormalizer:
    """Observations less their mean, over their standard deviation, clipped. Not for images: a network scales those.

    Args:
        moments: Those of the observations, each dimension by itself.
        clip: The largest absolute value that comes out.
        eps: Added to the variance.
    """

    moments: Moments
    clip: float = 10.0
    eps: float = 1e-8
    _scale: Array = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_scale", 1.0 / np.sqrt(self.moments.variance + self.eps))

    def update(self, obs: ArrayLike) -> ObservationNormalizer:
        """With a batch ``[..., *shape]`` taken in."""
        return ObservationNormalizer(self.moments.update(obs), self.clip, self.eps)

    def normalize(self, obs: ArrayLike) -> NDArray[np.float32]:
        """``[..., *shape]``, float32; NaN stays NaN."""
        scaled = (np.asarray(obs) - self.moments.mean) * self._scale
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """As arrays."""
        return self.moments.state() | {"clip": np.asarray(self.clip), "eps": np.asarray(self.eps)}

    @classmethod
    def from_state(cls, state: State) -> ObservationNormalizer:
        """From ``state()``."""
        return cls(Moments.from_state(state), float(state["clip"]), float(state["eps"]))


@dataclass(frozen=True, slots=True, eq=False)
class RewardNormalizer:
    """Rewards over the standard deviation of the discounted return so far, clipped (Engstrom et al. 2020, section 3).

    The mean is not subtracted: that would change what is best. The running return ``R_t = gamma R_{t-1} + r_t``
    starts at 0 in each episode.

    Args:
        moments: Those of the running returns.
        returns: ``[N]``, the running return of each environment.
        gamma: The discount per step, the learner's.
        clip: The largest absolute reward that comes out.
        eps: Added to the variance.
    """

    moments: Moments
    returns: Array
    gamma: float
    clip: float = 10.0
    eps: float = 1e-8

    @classmethod
    def empty(cls, num_envs: int, gamma: float) -> RewardNormalizer:
        """Nothing seen yet."""
        return cls(Moments.empty(), np.zeros(num_envs), gamma)

    def update(self, r_t: ArrayLike, done_t: ArrayLike) -> RewardNormalizer:
        """With one step of every environment taken in.

        Args:
            r_t: ``[N]``, raw rewards.
            done_t: ``[N]``, bool: the episode ended with this step, in either way.
        """
        returns = self.gamma * self.returns + np.asarray(r_t, np.float64)
        moments = self.moments.update(returns)
        return RewardNormalizer(moments, np.where(done_t, 0.0, returns), self.gamma, self.clip, self.eps)

    def normalize(self, r_t: ArrayLike) -> NDArray[np.float32]:
        """Rewards of any shape, float32."""
        scale = 1.0 / np.sqrt(float(self.moments.variance) + self.eps)
        scaled: Array = np.asarray(r_t, np.float64) * scale
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """As arrays."""
        numbers = {"gamma": np.asarray(self.gamma), "clip": np.asarray(self.clip), "eps": np.asarray(self.eps)}
        return self.moments.state() | {"returns": self.returns} | numbers

    @classmethod
    def from_state(cls, state: State) -> RewardNormalizer:
        """From ``state()``."""
        return cls(Moments.from_state(state), np.array(state["returns"], np.float64), float(state["gamma"]),
                   float(state["clip"]), float(state["eps"]))
