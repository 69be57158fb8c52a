"""The compiled node against the distribution that it stands for."""

from __future__ import annotations

import torch
from torch import Generator

from velodrome.rl.squash import sample_squashed, squashed


def test_action_density_and_gradients_are_the_distributions() -> None:
    head = torch.randn(40, 6, generator=Generator().manual_seed(1)) * 2
    head[0, 3:], head[1, 3:], head[2, :3] = 5.0, -30.0, 8.0  # deviations out of range, and an action at its end
    ours, theirs = (head.clone().requires_grad_() for _ in range(2))
    action, log_prob = sample_squashed(ours, Generator().manual_seed(2))
    action_too, log_prob_too = squashed(theirs).sample_with_log_prob(Generator().manual_seed(2))
    torch.testing.assert_close(action, action_too)
    # With a deviation of e^-20 the distribution can't tell the action from its mean; the node has the noise itself.
    others = torch.arange(40) != 1
    torch.testing.assert_close(log_prob[others], log_prob_too[others], rtol=1e-4, atol=1e-4)
    assert abs(float((log_prob - log_prob_too).detach()[1])) < 5.0
    weights = torch.randn(40, 3, generator=Generator().manual_seed(3))
    ((action * weights).sum() + (0.3 * log_prob).sum()).backward()
    ((action_too * weights).sum() + (0.3 * log_prob_too).sum()).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_without_gradients_the_same_numbers() -> None:
    head = torch.randn(7, 4, generator=Generator().manual_seed(1))
    with torch.no_grad():
        action, log_prob = sample_squashed(head, Generator().manual_seed(2))
    again, log_prob_again = sample_squashed(head.requires_grad_(), Generator().manual_seed(2))
    assert torch.equal(action, again)
    assert torch.equal(log_prob, log_prob_again)
    assert float(action.abs().max()) < 1.0
