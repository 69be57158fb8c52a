"""Against a plain list of everything that ever happened, walked step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from velodrome.errors import UsageError
from velodrome.rl.replay import Field, ReplayBuffer

GAMMA = 0.5


@dataclass
class World:
    """N environments whose observations are numbered: no two are alike. Final ones are negative."""

    num_envs: int
    p_end: float
    rng: np.random.Generator
    history: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        self.obs = self._fresh(1)

    def _fresh(self, sign: int) -> Tensor:
        self.number += self.num_envs
        return sign * torch.arange(self.number, self.number + self.num_envs, dtype=torch.float32).unsqueeze(1)

    def step(self, buffer: ReplayBuffer) -> None:
        terminated = self.rng.random(self.num_envs) < self.p_end
        truncated = self.rng.random(self.num_envs) < self.p_end
        step: dict[str, Any] = {
            "obs": self.obs, "action": torch.from_numpy(self.rng.integers(0, 9, self.num_envs)),
            "reward": self.rng.integers(-4, 5, self.num_envs).astype(np.float64), "terminated": terminated,
            "truncated": truncated, "next_obs": self._fresh(1), "final_obs": self._fresh(-1),
        }
        self.history.append(step)
        buffer.add(**step)
        self.obs = step["next_obs"]

    def transition(self, t: int, n: int, steps: int) -> tuple[float, float, float | None]:
        """Reward, discount and next observation (None after a termination) of env ``n`` from step ``t``."""
        reward, weight = 0.0, 1.0
        for step in self.history[t:t + steps]:
            reward += weight * float(step["reward"][n])
            weight *= GAMMA
            if step["terminated"][n]:
                return reward, 0.0, None
            if step["truncated"][n]:
                return reward, weight, float(step["final_obs"][n, 0])
        return reward, weight, float(step["next_obs"][n, 0])


def new_buffer(capacity: int, num_envs: int) -> ReplayBuffer:
    return ReplayBuffer(capacity, num_envs, Field((1,), torch.float32), Field((), torch.int64))


@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 25), st.integers(1, 5),
       st.sampled_from([0.0, 0.2, 0.8, 1.0]), st.integers(0, 2**32 - 1))
def test_every_transition_is_what_happened(
    capacity: int, num_envs: int, num_steps: int, n: int, p_end: float, seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    buffer, world = new_buffer(capacity, num_envs), World(num_envs, p_end, rng)
    for _ in range(num_steps):
        world.step(buffer)
    stored = range(max(0, num_steps - capacity), num_steps)
    assert len(buffer) == len(stored) * num_envs
    by_obs = {float(world.history[t]["obs"][e, 0]): (t, e) for t in stored for e in range(num_envs)}
    batch = buffer.sample(40, rng, gamma=GAMMA, n=n)
    for b in range(40):
        t, e = by_obs[float(batch.obs[b, 0])]  # a KeyError: something that is not stored any more
        reward, discount, next_obs = world.transition(t, e, n)
        assert (float(batch.reward[b]), float(batch.discount[b])) == (reward, discount)
        assert int(batch.action[b]) == int(world.history[t]["action"][e])
        if next_obs is not None:
            assert float(batch.next_obs[b, 0]) == next_obs


def test_every_transition_is_equally_likely() -> None:
    """Of 30,000 draws from 15, each is expected 2,000 times, give or take five standard deviations: 216."""
    rng = np.random.default_rng(0)
    buffer, world = new_buffer(5, 3), World(3, 0.2, rng)
    for _ in range(8):
        world.step(buffer)
    _, counts = torch.unique(buffer.sample(30_000, rng, gamma=GAMMA).obs, return_counts=True)
    assert len(counts) == 15
    assert bool(((counts - 2000).abs() < 216).all())


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 12))
@settings(max_examples=40)
def test_state_comes_back_and_goes_on_bit_for_bit(seed: int, before: int, after: int) -> None:
    one, world = new_buffer(6, 2), World(2, 0.4, np.random.default_rng(seed))
    for _ in range(before):
        world.step(one)
    state = one.state()
    frozen = {name: tensor.clone() for name, tensor in state.items()}
    two = new_buffer(6, 2)
    two.load_state(state)
    for _ in range(after):
        world.step(one)
        two.add(**world.history[-1])
    assert all(torch.equal(frozen[name], state[name]) for name in state), "the state changed with the buffer"
    draws = [buffer.sample(30, np.random.default_rng(1), gamma=0.9, n=3) for buffer in (one, two)]
    for left, right in zip(*(draw[:5] for draw in draws), strict=True):
        assert torch.equal(left, right)
    again = two.state()
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.state().items())


def test_images_are_stored_as_bytes() -> None:
    buffer = ReplayBuffer(3, 2, Field((4, 8, 8), torch.uint8), Field((2,), torch.float32))
    images = torch.randint(0, 256, (2, 4, 8, 8), dtype=torch.uint8)
    flags = np.array([False, True])
    places = buffer.add(images, torch.rand(2, 2), np.ones(2), ~flags, flags, images, images + 1)
    batch = buffer.gather(places, gamma=0.9)
    assert batch.obs.dtype == torch.uint8
    assert torch.equal(batch.obs, images)
    assert torch.equal(batch.next_obs[1], images[1] + 1)
    assert batch.discount.tolist() == pytest.approx([0.0, 0.9])


def test_what_a_buffer_refuses() -> None:
    buffer = new_buffer(4, 2)
    with pytest.raises(UsageError, match="is empty"):
        buffer.sample(1, np.random.default_rng(0), gamma=0.9)
    with pytest.raises(UsageError, match="needs room"):
        new_buffer(0, 1)
    world = World(2, 0.0, np.random.default_rng(0))
    world.step(buffer)
    for name in ("obs", "action", "reward", "terminated", "truncated", "next_obs", "final_obs"):
        wrong = world.history[0] | {name: world.history[0][name][:1]}
        with pytest.raises(UsageError, match=f"{name} has a wrong shape"):
            buffer.add(**wrong)
    with pytest.raises(UsageError, match="of another shape"):
        new_buffer(4, 3).load_state(buffer.state())
