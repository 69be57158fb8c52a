"""``SimBatch``: N environments of one simulator, stepped together into buffers that the caller can own.

The loop of an actor, without a dict or a copy::

    batch = SimBatch(CARTPOLE, 64)
    batch.reset(seed=1)
    while ...:
        batch.step(policy(batch.buffers.obs))      # or batch.step(actions, out=rollout_rows)
        rollout.add(batch.buffers)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from velodrome.envs.simulators.counter_random import DRAWS, EPISODE, SEED, STREAM
from velodrome.envs.simulators.simulator import (
    DISABLED,
    SAME_STEP,
    Bools,
    Counts,
    Floats,
    Simulator,
    all_below,
    all_finite,
    as_bytes,
    settle,
)
from velodrome.errors import UsageError

_CHUNK = 64  # rows; threads get multiples of it, so that no two write to one cache line


@dataclass(frozen=True, slots=True)
class StepBuffers:
    """What a step of N environments writes: C-contiguous arrays. Overwritten by the next step into them.

    Attributes:
        obs: ``[N, *obs_shape]`` of the space's dtype: what to act on next (after a same-step autoreset, the first
            observation of the next episode).
        reward: ``[N]`` float64.
        terminated: ``[N]`` bool: the episode reached an end of its own.
        truncated: ``[N]`` bool: the episode has as many steps as the time limit allows.
        done: ``[N]`` bool: either.
        final_obs: like ``obs``: the last observation of the episode; of this step where ``done``, else older.
        episode_return: ``[N]`` float64: the episode's sum of rewards; of this step where ``done``, else older.
        episode_length: ``[N]`` int64: its steps; likewise.
        action_mask: ``[N, num_actions]`` bool: the actions allowed next; without columns where there are no masks.
    """

    obs: NDArray[Any]
    reward: Floats
    terminated: Bools
    truncated: Bools
    done: Bools
    final_obs: NDArray[Any]
    episode_return: Floats
    episode_length: Counts
    action_mask: Bools

    @classmethod
    def empty(cls, simulator: Simulator, num_envs: int) -> Self:
        """New buffers, all zero."""
        n, space = num_envs, simulator.observation_space
        obs, flags = np.zeros((2, n, *space.shape), space.dtype), np.zeros((3, n), np.bool_)
        mask = np.zeros((n, simulator.num_actions if simulator.mask else 0), np.bool_)
        return cls(obs[0], np.zeros(n), flags[0], flags[1], flags[2], obs[1], np.zeros(n), np.zeros(n, np.int64), mask)


class SimBatch:
    """N environments of one simulator.

    Args:
        simulator: What to simulate.
        num_envs: N.
        mode: SAME_STEP, NEXT_STEP or DISABLED: what happens where an episode ended (``simulator.settle``).
        max_episode_steps: Time limit; None for no limit.
        first_stream: The random stream of row 0; row i has stream ``first_stream + i``. A batch that is one part of a
            larger one gives what those rows give in the whole.
        num_threads: Threads that share the rows of a step. Pays from about ten thousand rows; the result is the same.
    """

    def __init__(
        self, simulator: Simulator, num_envs: int, *, mode: int = SAME_STEP, max_episode_steps: int | None = None,
        first_stream: int = 0, num_threads: int = 1,
    ) -> None:
        limit = 1 if max_episode_steps is None else max_episode_steps
        numbers = {"num_envs": num_envs, "num_threads": num_threads, "max_episode_steps": limit}
        for name, value in (numbers | {"first_stream + 1": first_stream + 1}).items():
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise UsageError(f"{simulator.name} can't be made with this {name}", given=repr(value),
                                 allowed="a whole number, 1 or more")
        n = num_envs = int(num_envs)
        self.simulator, self.num_envs, self.mode, self.first_stream = simulator, n, mode, int(first_stream)
        self.max_episode_steps = max_episode_steps
        self.buffers = StepBuffers.empty(simulator, n)
        self._state = np.zeros((simulator.num_variables, n), simulator.state_type)
        self._keys = np.zeros((2, n), np.uint64)
        self._counts, self._returns = np.zeros((3, n), np.int64), np.zeros(n)
        options = simulator.options  # what advance takes besides, where steps are random
        self._random = () if options is None else (self._keys, self._counts, np.array([*options.values()], np.float64))
        self._pending, self._restart = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self._seeded = self._begun = False
        self._discrete = isinstance(simulator.action_space, Discrete)
        self._action_shape = (n,) if self._discrete else (n, simulator.num_actions)
        self._action_dtype = np.dtype(np.int64 if self._discrete else np.float32)
        self._use(self.buffers)
        size = -(-n // num_threads // _CHUNK) * _CHUNK
        self._chunks = [(lo, min(lo + size, n)) for lo in range(0, n, size)]
        self._pool = ThreadPoolExecutor(num_threads - 1) if len(self._chunks) > 1 else None

    def reset(self, seed: int | Sequence[int | None] | None = None, where: Bools | None = None) -> None:
        """Begins a new episode in every row, or in those ``where`` true, and writes their ``obs`` (and masks).

        Args:
            seed: One seed for all: row i has stream ``first_stream + i`` of it. A list: row i has stream 0 of its
                own seed, or goes on where that is None. None: every row goes on with its own stream, which is one
                of the machine's choice if there was no seed yet.
            where: ``[N]`` bool.

        Raises:
            UsageError: A seed that is no whole number in ``[0, 2**64)``, a list of another length than N, or rows that
                are left out although they have never begun.
        """
        rows = np.ones(self.num_envs, np.bool_) if where is None else where
        if not self._begun and not rows.all():
            raise UsageError("Some environments would be left without an episode",
                             hint="reset all environments first, then those of a mask")
        if not self._seeded:
            self._set_seed(int.from_bytes(np.random.SeedSequence().generate_state(2).tobytes(), "little"), rows)
        if seed is not None:
            self._set_seed(seed, rows)
        self._seeded = self._begun = True
        out = self._out
        self._restart[:] = rows
        self._pending[rows] = False
        self._counts[EPISODE, rows] += 1
        self._counts[DRAWS:, rows] = 0
        self._returns[rows] = 0.0
        for flags in (out.terminated, out.truncated, out.done):
            flags[rows] = False
        self.simulator.begin(self._state, self._keys, self._counts, out.obs, self._restart, 0, self.num_envs)
        self._mask(0, self.num_envs)

    def step(self, actions: NDArray[Any], out: StepBuffers | None = None) -> int:
        """One step of every environment, into ``buffers``, or into ``out`` if given (which is then ``buffers``).

        Args:
            actions: ``[N]`` of any integer type, or ``[N, k]`` (or ``[N]`` if k is 1) of any real type.
            out: Buffers of the caller, such as rows of a rollout.

        Returns:
            The number of episodes that ended in this step.

        Raises:
            UsageError: No reset yet, actions of a wrong shape, type or value (NaN too), a row that has ended and was
                not reset (DISABLED), or buffers that don't fit. The batch is then as it was.
        """
        if not self._begun:
            raise UsageError(f"{self.simulator.name} was stepped before its first reset", hint="call reset() first")
        chosen = self._checked(actions)
        if self.mode == DISABLED and self._pending.any():
            raise UsageError("Environments whose episode has ended were stepped",
                             given=f"rows {np.flatnonzero(self._pending)[:8].tolist()}",
                             hint="reset them first: reset(options={'reset_mask': terminated | truncated})")
        if out is not None and out is not self.buffers:
            self._use(out)
        if self._pool is None:
            return self._step_rows(chosen, 0, self.num_envs)
        parts = [self._pool.submit(self._step_rows, chosen, lo, hi) for lo, hi in self._chunks[1:]]
        return self._step_rows(chosen, *self._chunks[0]) + sum(part.result() for part in parts)

    def get_state(self) -> dict[str, NDArray[Any]]:
        """All that a batch of the same simulator needs to go on bit for bit (``set_state``): copies, by name."""
        own = {"state": self._state, "keys": self._keys, "counts": self._counts, "returns": self._returns,
               "pending": self._pending, "begun": np.array([self._begun, self._seeded])}
        shown = {name: getattr(self.buffers, name) for name in _BUFFER_NAMES}
        return {name: array.copy() for name, array in (own | shown).items()}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from a state of ``get_state``.

        Raises:
            UsageError: Arrays are missing or of another shape or type: another simulator, or another N. Nothing is
                changed then.
        """
        own = {"state": self._state, "keys": self._keys, "counts": self._counts, "returns": self._returns,
               "pending": self._pending, "begun": np.zeros(2, np.bool_)}
        own |= {name: getattr(self.buffers, name) for name in _BUFFER_NAMES}
        for name, array in own.items():
            given = state.get(name)
            if given is None or given.shape != array.shape or given.dtype != array.dtype:
                what = "nothing" if given is None else f"{given.dtype} {given.shape}"
                raise UsageError(f"This is no state of {self.num_envs} x {self.simulator.name}",
                                 given=f"{name}: {what}", allowed=f"{array.dtype} {array.shape}")
        for name, array in own.items():
            array[...] = state[name]
        self._begun, self._seeded = map(bool, own["begun"])

    def close(self) -> None:
        """Ends the threads, if there are any. Can be called twice."""
        if self._pool is not None:
            self._pool.shutdown()

    def _set_seed(self, seed: int | Sequence[int | None], rows: Bools) -> None:
        """The streams of ``rows``, each before its first episode."""
        one_for_all = not isinstance(seed, (list, tuple, np.ndarray))
        seeds: list[Any] = [seed] if one_for_all else list(cast("Sequence[int | None]", seed))
        given = [s for s in seeds if s is not None]
        right = all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) and 0 <= s < 2**64 for s in given)
        if not right or not (one_for_all or len(seeds) == self.num_envs):
            raise UsageError("Environments can't be seeded with this", given=repr(seed)[:80],
                             allowed=f"a whole number in [0, 2**64), or a list of {self.num_envs} of them")
        if one_for_all:
            self._keys[SEED, rows] = given[0]
            self._keys[STREAM, rows] = (np.uint64(self.first_stream) + np.arange(self.num_envs, dtype=np.uint64))[rows]
        else:
            rows = rows & np.array([s is not None for s in seeds])
            self._keys[SEED, rows] = [s for s, row in zip(seeds, rows, strict=True) if row]
            self._keys[STREAM, rows] = 0
        self._counts[EPISODE, rows] = -1

    def _checked(self, actions: NDArray[Any]) -> NDArray[Any]:
        given = np.asarray(actions)
        right = given.dtype.kind in ("iu" if self._discrete else "iuf")
        if given.shape != self._action_shape and given.size == np.prod(self._action_shape) and not self._discrete:
            given = given.reshape(self._action_shape)
        if given.shape != self._action_shape or not right:
            raise UsageError(
                f"{self.simulator.name} can't be stepped with these actions",
                given=f"{given.dtype} array of shape {given.shape}",
                allowed=f"{'integers' if self._discrete else 'real numbers'} of shape {self._action_shape}")
        if given.dtype != self._action_dtype or not given.flags.c_contiguous or not given.flags.writeable:
            given = np.array(given, self._action_dtype, order="C")
        n = self.simulator.num_actions
        if not (all_below(given, n) if self._discrete else all_finite(given)):
            wrong = (given < 0) | (given >= n) if self._discrete else ~np.isfinite(given).all(axis=1)
            row = int(np.argmax(wrong))
            raise UsageError(f"{self.simulator.name} can't do this action", given=f"{given[row]} in row {row}",
                             allowed=f"0 to {n - 1}" if self._discrete else "finite numbers")
        return given

    def _use(self, out: StepBuffers) -> None:
        """Steps go to ``out`` from now on, after a check that it fits."""
        for name in _BUFFER_NAMES:
            wanted, given = getattr(self.buffers, name), getattr(out, name)
            if given.shape != wanted.shape or given.dtype != wanted.dtype or not given.flags.c_contiguous:
                raise UsageError("These buffers don't fit", given=f"{name}: {given.dtype} {given.shape}",
                                 allowed=f"C-contiguous {wanted.dtype} {wanted.shape}")
        self.buffers = self._out = out
        self._settle_args = (
            as_bytes(out.obs), out.reward, out.terminated, out.truncated, as_bytes(out.final_obs), out.done,
            out.episode_return, out.episode_length, self._returns, self._counts, self._pending, self._restart,
            self.max_episode_steps or 0, self.mode,
        )

    def _step_rows(self, actions: NDArray[Any], lo: int, hi: int) -> int:
        out, simulator = self._out, self.simulator
        simulator.advance(self._state, actions, out.obs, out.reward, out.terminated, *self._random, lo, hi)
        num_ended, num_restarts = settle(*self._settle_args, lo, hi)
        if num_restarts:
            simulator.begin(self._state, self._keys, self._counts, out.obs, self._restart, lo, hi)
        self._mask(lo, hi)
        return int(num_ended)

    def _mask(self, lo: int, hi: int) -> None:
        if self.simulator.mask is not None:
            self.simulator.mask(self._state, self._out.action_mask, lo, hi)


_BUFFER_NAMES = tuple(field.name for field in fields(StepBuffers))
