"""Two perceptrons on two threads: the numbers of one after the other."""

from __future__ import annotations

import pytest
import torch

from velodrome.envs.adapter import make_envs
from velodrome.rl.algorithms import read_params
from velodrome.rl.dense import Mlp
from velodrome.rl.on_policy import OnPolicy
from velodrome.rl.twins import run_both


def pair() -> tuple[Mlp, Mlp]:
    draw = torch.Generator().manual_seed(0)
    return Mlp([4, 16, 16, 3], generator=draw), Mlp([4, 16, 16, 1], activation="relu", generator=draw)


@pytest.mark.parametrize("needs_x", [False, True])
def test_results_and_gradients_are_the_same_bits(needs_x: bool) -> None:
    found = []
    for side_by_side in (False, True):
        one, other = pair()
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1)).requires_grad_(needs_x)
        results = run_both(one, other, x) if side_by_side else (one(x), other(x))
        (results[0].sin().sum() + results[1].square().sum()).backward()
        gradients = [p.grad for network in (one, other) for p in network.parameters()]
        found.append([*(result.detach().clone() for result in results), *gradients, *([x.grad] if needs_x else [])])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_without_gradients() -> None:
    one, other = pair()
    x = torch.randn(8, 4)
    with torch.no_grad():
        first, second = run_both(one, other, x)
        assert torch.equal(first, one(x))
        assert torch.equal(second, other(x))
    assert not first.requires_grad


def test_a_backward_after_another_forward_is_refused() -> None:
    one, other = pair()
    x = torch.randn(8, 4)
    first, _ = run_both(one, other, x)
    run_both(one, other, x)
    with pytest.raises(RuntimeError, match="another forward"):
        first.sum().backward()


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_a_run_does_not_depend_on_its_threads(env: str) -> None:
    weights = []
    for threads in (1, 2):
        _, config = read_params({"algo": "ppo", "env": env, "steps": 4_096, "num_envs": 16, "num_steps": 64,
                                 "minibatches": 2, "epochs": 2, "threads": threads})
        with make_envs(env, 16) as envs:
            run = OnPolicy(envs, config, steps=4_096, seed=3)
            assert run.policy.is_side_by_side == (threads == 2)
            for _ in range(2):
                run.update()
        weights.append(run.learner.weights.detach().clone())
    assert torch.equal(*weights)


def test_small_minibatches_are_not_worth_a_thread() -> None:
    _, config = read_params({"algo": "ppo", "env": "CartPole-v1", "steps": 512, "num_envs": 4, "num_steps": 16,
                             "threads": 2})
    with make_envs("CartPole-v1", 4) as envs:
        assert not OnPolicy(envs, config, steps=512, seed=3).policy.is_side_by_side
