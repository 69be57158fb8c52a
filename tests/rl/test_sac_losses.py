from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor
from torch.autograd import gradcheck

from velodrome.rl import sac_losses
from velodrome.rl.gaussians import SquashedGaussian


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


CRITICS = torch.stack([numbers(1, 4), numbers(3, 2)])


# The lesser critic says 1, 2; log-probabilities -1, 0.5; temperature 0.2; reward 1, discounts 0.9 and 0 (terminated):
#   1 + 0.9 (1 + 0.2) = 2.08       1
def test_soft_target_by_hand() -> None:
    target = sac_losses.soft_target(numbers(1, 1), numbers(0.9, 0), CRITICS, numbers(-1, 0.5), 0.2)
    assert target.tolist() == pytest.approx([2.08, 1.0])


# Targets 2, 2: first critic ((1)^2 + (2)^2) / 2 / 2 = 1.25; second ((1)^2 + 0) / 2 / 2 = 0.25; the sum 1.5.
def test_critic_loss_by_hand() -> None:
    assert float(sac_losses.critic_loss(CRITICS, numbers(2, 2))) == pytest.approx(1.5)


# (0.2 * -1 - 1 + 0.2 * 0.5 - 2) / 2 = -1.55
def test_actor_loss_by_hand() -> None:
    assert float(sac_losses.actor_loss(CRITICS, numbers(-1, 0.5), 0.2)) == pytest.approx(-1.55)


# Mean log-probability -0.25, target entropy -1, temperature 2: -2 (-0.25 - 1) = 2.5, and its gradient by log alpha too.
def test_temperature_loss_by_hand() -> None:
    log_alpha = torch.tensor(math.log(2), dtype=torch.float64, requires_grad=True)
    loss = sac_losses.temperature_loss(log_alpha, numbers(-1, 0.5), -1.0)
    loss.backward()
    assert log_alpha.grad is not None
    assert (float(loss.detach()), float(log_alpha.grad)) == (pytest.approx(2.5), pytest.approx(2.5))


@pytest.mark.parametrize(("log_prob", "rises"), [(5.0, True), (-5.0, False)])
def test_the_temperature_rises_while_the_entropy_is_too_low(log_prob: float, rises: bool) -> None:
    log_alpha = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.SGD([log_alpha], lr=0.1)
    sac_losses.temperature_loss(log_alpha, torch.tensor([log_prob]), -1.0).backward()
    optimizer.step()
    assert (float(log_alpha.detach()) > 0) is rises


def test_gradients_through_the_action() -> None:
    """The actor's loss with critics that are functions of the action, by finite differences of the policy's output."""

    def loss(mean: Tensor, log_std: Tensor) -> Tensor:
        action, log_prob = SquashedGaussian(mean, log_std).sample_with_log_prob(Generator().manual_seed(1))
        q = torch.stack([(action - 0.3).square().sum(-1), action.exp().sum(-1)])
        return sac_losses.actor_loss(q, log_prob, 0.2)

    mean = numbers(0.1, -0.5, 0.9, 0.2).view(2, 2).requires_grad_()
    assert gradcheck(loss, (mean, numbers(-0.5, 0.1).requires_grad_()))


def test_gradients_flow_where_they_should_alone() -> None:
    q, log_prob = CRITICS.clone().requires_grad_(), numbers(-1, 0.5).requires_grad_()
    alpha = numbers(0.2).requires_grad_()
    assert not sac_losses.soft_target(numbers(1, 1), numbers(1, 1), q, log_prob, alpha).requires_grad
    sac_losses.actor_loss(q, log_prob, alpha).backward()
    assert alpha.grad is None
    log_alpha, again = torch.zeros((), requires_grad=True), numbers(-1, 0.5).requires_grad_()
    sac_losses.temperature_loss(log_alpha, again, -1.0).backward()
    assert again.grad is None
