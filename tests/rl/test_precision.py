from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Generator

from velodrome.envs.adapter import MODES, make_envs
from velodrome.rl import precision
from velodrome.rl.algorithms import RunConfig, env_settings
from velodrome.rl.networks import CNN
from velodrome.rl.on_policy import OnPolicy
from velodrome.rl.policy import ImageTrunk
from velodrome.rl.ppo_config import PPOConfig
from velodrome.rl.precision import choose_precision
from velodrome.rl.settings import about
from velodrome.rl.sight import Sight

CPU = torch.device("cpu")
SMALL = {"num_envs": 2, "num_steps": 8, "epochs": 1, "minibatches": 2}


def small_trunk() -> ImageTrunk:
    return ImageTrunk((2, 12, 10), Generator().manual_seed(1))


class NoisyRoom(gym.Env[Any, Any]):
    """Images at random, episodes of five steps; its state can be saved."""

    observation_space = spaces.Box(0, 255, (2, 12, 10), np.uint8)
    action_space = spaces.Discrete(3)
    t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._image(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self._image(), float(action), self.t == 5, False, {}

    def _image(self) -> Any:
        return self.np_random.integers(0, 256, (2, 12, 10), dtype=np.uint8)


def test_bfloat16_is_near_float32_and_its_gradients_are_those_of_the_weights() -> None:
    trunk = small_trunk()
    images = torch.randint(0, 256, (5, 12, 10, 2), dtype=torch.uint8, generator=Generator().manual_seed(2))
    exact = trunk(images)
    gradients = torch.autograd.grad(exact.square().sum(), list(trunk.parameters()))
    trunk.precision = "bfloat16"
    rough = trunk(images)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02)
    roughly = torch.autograd.grad(rough.square().sum(), list(trunk.parameters()))
    for got, expected in zip(roughly, gradients, strict=True):
        assert got.dtype == torch.float32
        assert float(torch.linalg.vector_norm(got - expected)) < 0.05 * float(torch.linalg.vector_norm(expected))


@pytest.mark.parametrize(("half_s", "expected"), [(0.5, "bfloat16"), (0.9, "float32"), (2.0, "float32")])
def test_auto_takes_the_quicker(monkeypatch: pytest.MonkeyPatch, half_s: float, expected: str) -> None:
    trunk = small_trunk()
    monkeypatch.setattr(precision, "_learning_time_s", lambda t: {"float32": 1.0, "bfloat16": half_s}[t.precision])
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert choose_precision("auto", trunk, CPU) == expected
    assert trunk.precision == "float32"
    assert choose_precision("bfloat16", trunk, CPU) == "bfloat16"


def test_auto_does_not_try_what_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_precision("auto", small_trunk(), CPU) == "float32"


def test_the_probe_leaves_weights_gradients_and_random_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, random = small_trunk(), torch.get_rng_state()
    before = {name: part.clone() for name, part in trunk.state_dict().items()}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    choose_precision("auto", trunk, CPU)
    assert all(torch.equal(before[name], part) for name, part in trunk.state_dict().items())
    assert all(p.grad is None for p in trunk.parameters())
    assert torch.equal(random, torch.get_rng_state())


def test_a_resumed_run_keeps_the_first_choice() -> None:
    with make_envs(NoisyRoom, 2) as envs:
        first = OnPolicy(envs, PPOConfig(**SMALL, precision="bfloat16"), steps=64, seed=1)
        first.update()
        state = copy.deepcopy(first.state())
        first.update()
    with make_envs(NoisyRoom, 2) as envs:
        other = OnPolicy(envs, PPOConfig(**SMALL, precision="float32"), steps=64, seed=1)
        other.load(state)
        assert isinstance(other.policy.trunk, ImageTrunk)
        assert other.policy.trunk.precision == "bfloat16"
        other.update()
    assert torch.equal(first.learner.weights, other.learner.weights)


def test_images_are_seen_with_their_channels_last() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 2, 12, 10), dtype=np.uint8)
    seen = Sight((2, 12, 10), is_image=True, normalize=False).see(images)
    assert seen.is_contiguous()
    assert np.array_equal(seen.numpy(), np.moveaxis(images, 1, -1))
    already = images.transpose(0, 2, 3, 1).copy()
    same = Sight((12, 10, 2), is_image=True, normalize=False).see(already)
    assert np.array_equal(same.numpy(), already)
    assert not np.shares_memory(same.numpy(), already)


def test_many_images_in_parts_are_many_images_at_once() -> None:
    trunk = small_trunk()
    images = torch.randint(0, 256, (600, 12, 10, 2), dtype=torch.uint8, generator=Generator().manual_seed(2))
    whole = trunk(images).detach()
    with torch.no_grad():
        torch.testing.assert_close(trunk(images), whole)


@pytest.mark.parametrize(("env", "wrappers", "expected"), [
    ("ALE/Pong-v5", "auto", ("atari",)), ("ale_py:ALE/Pong-v5", "auto", ("atari",)), ("ALE/Pong-v5", "none", ()),
    ("CartPole-v1", "auto", ()), ("games:Mine-v0", "atari", ("atari",)),
])
def test_atari_wrappers_come_by_themselves(env: str, wrappers: str, expected: tuple[str, ...]) -> None:
    assert env_settings(env, RunConfig(wrappers=wrappers))["wrappers"] == expected


def test_a_run_knows_every_mode_of_make_envs() -> None:
    allowed: Any = about(RunConfig)["mode"].allowed
    assert list(allowed.options) == list(MODES)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_at_rest_the_numbers_are_the_same(dtype: torch.dtype) -> None:
    if not torch.cpu.get_capabilities().get("avx512_bf16", False):
        pytest.skip("bfloat16 is emulated here, which takes minutes")
    network = CNN((4, 84, 84), generator=torch.Generator().manual_seed(0))
    images = torch.randint(0, 256, (3, 84, 84, 4), generator=torch.Generator().manual_seed(1)).to(dtype)
    for name in ("float32", "bfloat16"):
        network.precision = name
        with torch.no_grad():
            plain = network(images.permute(0, 3, 1, 2))
            with network.at_rest():
                assert torch.equal(network(images.permute(0, 3, 1, 2)), plain)
            network.linear.weight.mul_(2.0)
            assert not torch.equal(network(images.permute(0, 3, 1, 2)), plain)
