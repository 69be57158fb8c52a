"""A replay buffer: the last transitions of N environments, to draw minibatches of one-step or n-step transitions from.

Observations are stored once. Row t holds what every environment saw at step t, so the observation after a transition
is that of the row below, unless the episode ended there. Then, with same-step autoreset, the row below holds the
first observation of the next episode, and the final one is kept apart, in a table of its own, for the episodes that
were cut short: their value is bootstrapped from it. After a termination nothing is bootstrapped, and no final
observation is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from velodrome.errors import UsageError
from velodrome.rl.sight import Sight

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Rewards = NDArray[np.float32]
Array = NDArray[Any]


class Transitions(NamedTuple):
    """A minibatch of B transitions of up to n steps, on the buffer's device."""

    obs: Tensor
    """``[B, *obs_shape]``."""
    action: Tensor
    """``[B, *action_shape]``."""
    reward: Tensor
    """``[B]``: ``r_t + gamma r_{t+1} + ...`` over the steps."""
    discount: Tensor
    """``[B]``: what to multiply the value after it by: gamma to the number of steps, 0 if the episode terminated."""
    next_obs: Tensor
    """``[B, *obs_shape]``, after the steps; after a termination, anything."""
    next_mask: Tensor | None = None
    """``[B, num_masked]``, bool, the actions allowed there; None without masks. All, where an episode was cut."""

    def seen_by(self, sight: Sight) -> Transitions:
        """The same with its observations normalised, where the policy's are."""
        if sight.normalizer is None:
            return self
        return self._replace(obs=sight.normalize(self.obs), next_obs=sight.normalize(self.next_obs))

    def named(self) -> dict[str, Tensor]:
        """What went in, by the names that a person knows: for the NaN guard."""
        return {"observations": self.obs, "actions": self.action, "rewards": self.reward,
                "next observations": self.next_obs}


@dataclass(frozen=True, slots=True)
class Field:
    """Shape and type of what one environment gives or takes in one step."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class ReplayBuffer:
    """The last ``capacity`` steps of N environments.

    The calling loop: ``buffer.add(obs, action, r, terminated, truncated, next_obs, final_obs)`` once per step of
    all environments, ``buffer.sample(256, rng, gamma=0.99)`` once per update.

    Args:
        capacity: Rows, so that ``capacity * num_envs`` transitions fit. At least 1.
        num_envs: N.
        obs: Of an observation; stored in its type, images as uint8.
        action: Of an action.
        num_masked: Columns of an action mask; None without masks.
        device: Where everything is stored.
    """

    def __init__(
        self, capacity: int, num_envs: int, obs: Field, action: Field, *, num_masked: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if capacity < 1 or num_envs < 1:
            raise UsageError("A replay buffer needs room", given=f"capacity={capacity}, num_envs={num_envs}",
                             allowed="at least 1 of each")
        self.capacity, self.num_envs, self.device = capacity, num_envs, torch.device(device)
        rows = capacity + 1  # one more, for the observations after the newest step
        self._obs = torch.zeros(rows, num_envs, *obs.shape, dtype=obs.dtype, device=device)
        self._action = torch.zeros(rows, num_envs, *action.shape, dtype=action.dtype, device=device)
        self._reward = np.zeros((rows, num_envs), np.float32)
        self._terminated = np.zeros((rows, num_envs), np.bool_)
        self._truncated = np.zeros((rows, num_envs), np.bool_)
        self._valid = np.ones((rows, num_envs), np.bool_)
        self._mask = None if num_masked is None else np.ones((rows, num_envs, num_masked), np.bool_)
        self._finals: dict[int, Tensor] = {}
        self._num_added = 0

    def __len__(self) -> int:
        """The number of transitions to draw from."""
        return self.num_rows * self.num_envs

    @property
    def num_rows(self) -> int:
        """The number of stored steps."""
        return min(self._num_added, self.capacity)

    def add(
        self, obs: Tensor, action: Tensor, reward: Array, terminated: Array, truncated: Array, next_obs: Tensor,
        final_obs: Tensor, *, valid: Array | None = None, next_mask: Array | None = None,
    ) -> Indices:
        """Adds one step of all environments, over the oldest one if the buffer is full.

        Args:
            obs: ``[N, *obs_shape]``, what was acted on.
            action: ``[N, *action_shape]``.
            reward: ``[N]``.
            terminated: ``[N]``, bool.
            truncated: ``[N]``, bool; where both are set, the episode counts as terminated.
            next_obs: ``[N, *obs_shape]``, what will be acted on next: the first of a new episode where one ended.
            final_obs: ``[N, *obs_shape]``, the last of the old one; only looked at where ``truncated``.
            valid: ``[N]``, bool: False where no transition took place: it is never drawn, nor passed through.
            next_mask: ``[N, num_masked]``, bool, the actions allowed after ``next_obs``; needed with masks.

        Returns:
            ``[N]``, where the transitions are stored now.
        """
        each, num_rows = (self.num_envs,), len(self._terminated)
        row, after = self._num_added % num_rows, (self._num_added + 1) % num_rows
        _check_shape("reward", reward, each)
        _check_shape("terminated", terminated, each)
        _check_shape("truncated", truncated, each)
        _check_shape("final_obs", final_obs, self._obs.shape[1:])
        _put(self._obs, row, obs, "obs")
        _put(self._action, row, action, "action")
        _put(self._obs, after, next_obs, "next_obs")
        self._reward[row] = reward
        self._terminated[row] = terminated
        self._truncated[row] = truncated & ~terminated
        self._valid[row] = True if valid is None else valid
        if self._mask is not None:
            assert next_mask is not None
            _check_shape("next_mask", next_mask, self._mask.shape[1:])
            self._mask[after] = next_mask
        places: Indices = row * self.num_envs + np.arange(self.num_envs)
        if self._finals:
            for place in places.tolist():
                self._finals.pop(place, None)
        if self._truncated[row].any():
            for n in np.flatnonzero(self._truncated[row]).tolist():
                self._finals[int(places[n])] = final_obs[n].to(self._obs.dtype).to(self.device, copy=True)
        self._num_added += 1
        return places

    def sample(self, size: int, rng: Generator, *, gamma: float, n: int = 1) -> Transitions:
        """``size`` transitions, each stored one equally likely, with repetition. Arguments as for ``gather``."""
        if len(self) == 0:
            raise UsageError("The replay buffer is empty", given="0 transitions", allowed="at least 1")
        return self.gather(self._draw(size, rng), gamma=gamma, n=n)

    def _draw(self, size: int, rng: Generator) -> Indices:
        """Places of valid transitions, evenly."""
        oldest = self._num_added - self.num_rows
        rows = (oldest + rng.integers(self.num_rows, size=size)) % len(self._obs)
        places: Indices = rows * self.num_envs + rng.integers(self.num_envs, size=size)
        wrong = np.flatnonzero(~self._valid.reshape(-1)[places])
        if len(wrong) == size and not self._valid[(oldest + np.arange(self.num_rows)) % len(self._obs)].any():
            raise UsageError("The replay buffer is empty", given="no valid transitions", allowed="at least 1")
        if len(wrong):
            places[wrong] = self._draw(len(wrong), rng)
        return places

    def gather(self, places: Indices, *, gamma: float, n: int = 1) -> Transitions:
        """The transitions that start at ``places`` (see ``add``).

        Args:
            places: ``[B]``.
            gamma: The discount per step.
            n: The number of steps. An episode's end makes it smaller, and so does the newest step, where the
                rest is not known yet.
        """
        num_places = len(self._obs) * self.num_envs
        start = self._to(places)
        if n == 1:
            reward, last, discount = self._reward.reshape(-1)[places], places, np.full(len(places), gamma)
        else:
            reward, last, discount = self._several(places, gamma, n)
        terminated, truncated = self._terminated.reshape(-1)[last], self._truncated.reshape(-1)[last]
        after = self._to((last + self.num_envs) % num_places)
        next_obs = _rows(self._obs, after)
        for b in np.flatnonzero(truncated).tolist():
            next_obs[b] = self._finals[int(last[b])]
        next_mask = None
        if self._mask is not None:
            masks = self._mask.reshape(num_places, -1)[(last + self.num_envs) % num_places]
            next_mask = self._to(masks | truncated[:, None])
        return Transitions(
            _rows(self._obs, start), _rows(self._action, start), self._to(reward),
            self._to((discount * ~terminated).astype(np.float32)), next_obs, next_mask,
        )

    def _several(self, places: Indices, gamma: float, n: int) -> tuple[Rewards, Indices, Floats]:
        """The sum of up to n rewards from each place ``[B]`` on, the last place, and gamma to their number."""
        num_places = len(self._obs) * self.num_envs
        trail = (places[:, None] + self.num_envs * np.arange(n)) % num_places
        newest = (self._num_added - 1) % len(self._obs)
        ends = trail // self.num_envs == newest
        ends |= self._terminated.reshape(-1)[trail] | self._truncated.reshape(-1)[trail]
        ends |= ~self._valid.reshape(-1)[(trail + self.num_envs) % num_places]
        ends[:, -1] = True
        length = ends.argmax(1) + 1
        last = trail[np.arange(len(trail)), length - 1]
        powers = gamma ** np.arange(n + 1, dtype=np.float64)
        weights = np.where(np.arange(n) < length[:, None], powers[:n], 0.0).astype(np.float32)
        return (self._reward.reshape(-1)[trail] * weights).sum(1), last, powers[length]

    def cut(self) -> None:
        """Takes the newest transitions for the last of their episodes: what comes next are new ones."""
        if self._num_added == 0:
            return
        row, after = (self._num_added - 1) % len(self._obs), self._num_added % len(self._obs)
        for n in np.flatnonzero(~(self._terminated[row] | self._truncated[row])).tolist():
            self._truncated[row, n] = True
            self._finals[row * self.num_envs + n] = self._obs[after, n].clone()

    def state(self) -> dict[str, Tensor]:
        """All that is stored, copied to the CPU; ``load_state`` takes it back."""
        used = min(self._num_added + 1, len(self._obs))
        finals = sorted(self._finals)
        kept = [self._finals[place] for place in finals]
        arrays = {"reward": self._reward, "terminated": self._terminated, "truncated": self._truncated,
                  "valid": self._valid} | ({} if self._mask is None else {"mask": self._mask})
        rows = {"obs": self._obs, "action": self._action}
        rows |= {name: torch.from_numpy(whole) for name, whole in arrays.items()}
        return {name: whole[:used].to("cpu", copy=True) for name, whole in rows.items()} | {
            "num_added": torch.tensor(self._num_added),
            "final_places": torch.tensor(finals, dtype=torch.int64),
            "finals": torch.stack(kept).cpu() if kept else self._obs[0, :0].to("cpu", copy=True),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over a ``state()`` of a buffer of the same shape; draws then go on bit for bit as there.

        Raises:
            UsageError: If the state is one of another shape.
        """
        used, num_added = len(state["obs"]), int(state["num_added"])
        if used != min(num_added + 1, len(self._obs)) or state["obs"].shape[1:] != self._obs.shape[1:]:
            raise UsageError("A replay buffer's state is of another shape", given=str(list(state["obs"].shape)),
                             allowed=f"at most {list(self._obs.shape)}")
        self._num_added = num_added
        self._obs[:used], self._action[:used] = state["obs"], state["action"]
        for name in ("reward", "terminated", "truncated", "valid"):
            getattr(self, f"_{name}")[:used] = state[name].numpy()
        if self._mask is not None:
            self._mask[:used] = state["mask"].numpy()
        finals = state["finals"].to(self.device, copy=True)
        self._finals = dict(zip(state["final_places"].tolist(), finals, strict=True))

    def _to(self, array: NDArray[np.generic]) -> Tensor:
        """On the buffer's device."""
        there = torch.from_numpy(np.ascontiguousarray(array))
        return there if self.device.type == "cpu" else there.to(self.device)


def _rows(table: Tensor, places: Tensor) -> Tensor:
    """The entries ``[B, ...]`` of a table ``[rows, N, ...]`` at ``row * N + n``, copied."""
    return table.flatten(0, 1).index_select(0, places)


def _put(table: Tensor, row: int, values: Tensor, name: str) -> None:
    """Copies the values into a row of the table."""
    _check_shape(name, values, table.shape[1:])
    if table.device.type == "cpu":
        table.numpy()[row] = values.numpy()  # in half the time
    else:
        table[row] = values


def _check_shape(name: str, values: Tensor | Array, shape: tuple[int, ...]) -> None:
    """Raises UsageError for another shape: broadcasting would store wrong numbers silently."""
    if values.shape != shape:
        raise UsageError(f"{name} has a wrong shape", given=str(list(values.shape)), allowed=str(list(shape)))
