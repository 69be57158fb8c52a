"""The compiled loss of one discrete action, against the same loss in the framework's own operations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from velodrome.envs.adapter import make_envs
from velodrome.rl import ppo
from velodrome.rl.algorithms import read_params
from velodrome.rl.categorical_loss import LossWeights, categorical_loss
from velodrome.rl.distributions import Categorical
from velodrome.rl.losses import clipped_surrogate, value_loss
from velodrome.rl.on_policy import OnPolicy

WEIGHTS = LossWeights(clip=0.2, clip_value=0.0, value_coef=0.5, entropy_coef=0.01)


def batch(num_rows: int, num_actions: int, *, masked: bool, seed: int = 0) -> dict[str, Tensor | None]:
    draw = torch.Generator().manual_seed(seed)
    mask = None
    if masked:
        mask = torch.rand(num_rows, num_actions, generator=draw) < 0.6
        mask[range(num_rows), torch.randint(num_actions, (num_rows,), generator=draw)] = True
    head = 2.0 * torch.randn(num_rows, num_actions, generator=draw)
    action = Categorical(head, mask).sample(draw)
    noisy = Categorical(head + 0.3 * torch.randn(head.shape, generator=draw), mask)
    value, old_value, advantage, target = torch.randn(4, num_rows, generator=draw)
    return {"head": head, "value": value, "mask": mask, "action": action, "old_log_prob": noisy.log_prob(action),
            "old_value": old_value, "advantage": advantage, "target": target}


def in_operations(
    head: Tensor, value: Tensor, mask: Tensor | None, action: Tensor, old_log_prob: Tensor, old_value: Tensor,
    advantage: Tensor, target: Tensor, weights: LossWeights,
) -> tuple[Tensor, Tensor]:
    pi = Categorical(head, mask)
    policy = clipped_surrogate(pi.log_prob(action), old_log_prob, advantage, clip_range=weights.clip)
    of_value = value_loss(value, target, old_v=old_value, clip_range=weights.clip_value or None)
    entropy = pi.entropy().mean()
    loss = policy.loss + weights.value_coef * of_value - weights.entropy_coef * entropy
    return loss, torch.stack([policy.loss, of_value, entropy, policy.approx_kl, policy.clip_fraction])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("num_rows", "num_actions"), [(1, 2), (64, 2), (257, 7)])
@pytest.mark.parametrize("clip_value", [0.0, 0.3])
def test_loss_figures_and_gradients(num_rows: int, num_actions: int, masked: bool, clip_value: float) -> None:
    weights = replace(WEIGHTS, clip_value=clip_value)
    found = []
    for function in (categorical_loss, in_operations):
        rows = batch(num_rows, num_actions, masked=masked)
        head, value = rows["head"], rows["value"]
        assert head is not None
        assert value is not None
        loss, parts = function(**{**rows, "head": head.requires_grad_(), "value": value.requires_grad_()},  # type: ignore[arg-type]
                               weights=weights)
        (3.0 * loss).backward()
        found.append((loss.detach(), parts.detach(), head.grad, value.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6)


def test_where_the_policy_did_not_move_the_gradient_is_that_of_the_advantage() -> None:
    rows = batch(5, 3, masked=False)
    head = rows["head"]
    assert head is not None
    rows["old_log_prob"] = Categorical(head).log_prob(rows["action"])  # type: ignore[arg-type]
    _, parts = categorical_loss(**rows, weights=WEIGHTS)  # type: ignore[arg-type]
    assert rows["advantage"] is not None
    assert float(parts[0]) == pytest.approx(-float(rows["advantage"].mean()), abs=1e-6)
    assert float(parts[3]) == pytest.approx(0.0, abs=1e-7)
    assert float(parts[4]) == 0.0


def test_what_is_not_finite_stays_so() -> None:
    rows = batch(4, 3, masked=True)
    assert rows["head"] is not None
    rows["head"][2] = np.nan
    head = rows["head"].requires_grad_()
    loss, _ = categorical_loss(**rows, weights=WEIGHTS)  # type: ignore[arg-type]
    loss.backward()
    assert not torch.isfinite(loss)
    assert head.grad is not None
    assert not torch.isfinite(head.grad[2]).any()
    assert torch.isfinite(head.grad[[0, 1, 3]]).all()


@pytest.mark.parametrize("env", ["CartPole-v1", "velodrome/ProbeMask-v0"])
def test_ppo_learns_the_same_with_and_without_it(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for by_hand in (True, False):
        if not by_hand:
            monkeypatch.setattr(ppo, "serves", lambda head: False)
        _, config = read_params({"algo": "ppo", "env": env, "steps": 512, "num_envs": 4, "num_steps": 16, "epochs": 2})
        with make_envs(env, 4) as envs:
            run = OnPolicy(envs, config, steps=512, seed=3)
            figures = [run.update() for _ in range(2)]
        weights.append((run.learner.weights.detach().clone(), figures))
    torch.testing.assert_close(weights[0][0], weights[1][0], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(weights[0][1], weights[1][1], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5) for name in ours)
