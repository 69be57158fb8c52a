from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from velodrome.errors import UsageError
from velodrome.rl.batch_renorm import BatchRenorm
from velodrome.rl.dense import Mlp
from velodrome.rl.networks import CNN, MINATAR, linear
from velodrome.rl.q_head import NoisyLinear, QHead
from velodrome.rl.recurrent import LSTMCore, LSTMState
from velodrome.rl.renorm_mlp import RenormMlp


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


MAKERS: list[Any] = [
    lambda g: Mlp([4, 8, 8], generator=g),
    lambda g: CNN((1, 10, 10), convolutions=MINATAR, num_features=8, generator=g),
    lambda g: LSTMCore(3, 5, generator=g),
    lambda g: QHead([4, 5], 3, num_atoms=2, dueling=True, noisy=True, generator=g),
    lambda g: QHead([4, 5], 3, generator=g),
    lambda g: RenormMlp([5, 8, 1], generator=g),
]


@pytest.mark.parametrize("make", MAKERS)
def test_weights_come_from_the_generator_alone(make: Any) -> None:
    torch.manual_seed(1)
    one = make(seeded(7)).state_dict()
    untouched = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(untouched, torch.rand(1))
    torch.manual_seed(2)
    two, other = make(seeded(7)).state_dict(), make(seeded(8)).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_orthogonal_weights() -> None:
    layer = linear(5, 3, gain=2.0, generator=seeded())
    torch.testing.assert_close(layer.weight @ layer.weight.t(), 4.0 * torch.eye(3))
    assert layer.bias.tolist() == [0.0, 0.0, 0.0]


def test_nature_cnn() -> None:
    """84 -> 20 -> 9 -> 7 pixels, so 64 * 49 = 3,136 numbers into the linear layer."""
    net = CNN((4, 84, 84), generator=seeded())
    assert net.linear.in_features == 3136
    images = torch.randint(0, 256, (2, 3, 4, 84, 84), dtype=torch.uint8, generator=seeded())
    got = net(images)
    assert got.shape == (2, 3, 512)
    torch.testing.assert_close(got[1, 2], net((images[1, 2].float() / 255).unsqueeze(0))[0], rtol=1e-4, atol=1e-5)
    plain: Tensor = images[0, :1].float() / 255
    for layer in net.convolutions:
        plain = layer(plain.contiguous())
    torch.testing.assert_close(got[0, :1], net.linear(plain.flatten(1)).relu(), rtol=1e-4, atol=1e-5)


def test_cnn_leaves_its_input_alone_and_takes_boolean_grids() -> None:
    net = CNN((2, 10, 10), convolutions=MINATAR, num_features=8, generator=seeded())
    grid = torch.rand(3, 2, 10, 10, generator=seeded())
    copy = grid.clone()
    net(grid)
    assert torch.equal(grid, copy)
    torch.testing.assert_close(net(grid > 0.5), net((grid > 0.5).float()))
    with pytest.raises(UsageError, match="too small"):
        CNN((4, 16, 16))


def loop_over_steps(core: LSTMCore, x_t: Tensor, state: LSTMState, start_t: Tensor) -> tuple[Tensor, LSTMState]:
    """One environment and one step at a time, with the cell's equations written out."""
    lstm: Any = core.lstm
    out = torch.zeros(*x_t.shape[:2], core.num_features, dtype=x_t.dtype)
    finals = []
    for n in range(x_t.shape[1]):
        h, c = state.h[n], state.c[n]
        for t in range(x_t.shape[0]):
            if start_t[t, n]:
                h, c = torch.zeros_like(h), torch.zeros_like(c)
            gates = lstm.weight_ih_l0 @ x_t[t, n] + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
            i, f, g, o = gates.chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out[t, n] = h
        finals.append((h, c))
    return out, LSTMState(torch.stack([h for h, _ in finals]), torch.stack([c for _, c in finals]))


EVERYWHERE = [(t, n) for t in range(9) for n in range(3)]


@pytest.mark.parametrize("starts", [
    [], [(0, 0), (0, 2)], [(4, 1)], [(0, 1), (3, 0), (3, 1), (8, 2)], [(1, 0), (4, 1), (5, 1), (7, 2)], EVERYWHERE,
])
def test_lstm_forgets_at_every_start(starts: list[tuple[int, int]]) -> None:
    """Few of them, where the rollout is cut into pieces, and many, where it is looped over."""
    core = LSTMCore(3, 4, generator=seeded()).double()
    nn.init.normal_(core.lstm.bias_hh_l0, generator=seeded(4))
    x_t = torch.randn(9, 3, 3, dtype=torch.float64, generator=seeded(1))
    state = LSTMState(*torch.randn(2, 3, 4, dtype=torch.float64, generator=seeded(2)))
    start_t = torch.zeros(9, 3, dtype=torch.bool)
    for t, n in starts:
        start_t[t, n] = True
    got, (h, c) = core(x_t, state, start_t)
    expected, final = loop_over_steps(core, x_t, state, start_t)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close((h, c), tuple(final))
    ours = torch.autograd.grad(got.square().sum(), list(core.parameters()))
    by_hand = torch.autograd.grad(expected.square().sum(), list(core.parameters()))
    torch.testing.assert_close(ours, by_hand)


def test_even_nan_is_forgotten() -> None:
    core, start_t = LSTMCore(3, 4, generator=seeded()), torch.tensor([[True, False]])
    poisoned = LSTMState(torch.full((2, 4), math.nan), torch.zeros(2, 4))
    y, _ = core(torch.zeros(1, 2, 3), poisoned, start_t)
    assert y.isfinite().all(-1).tolist() == [[True, False]]


def test_lstm_in_pieces_is_lstm_at_once() -> None:
    """Acting goes step by step, learning takes the rollout: both must see the same."""
    core, start_t = LSTMCore(3, 4, generator=seeded()), torch.rand(8, 2, generator=seeded(3)) < 0.2
    x_t = torch.randn(8, 2, 3, generator=seeded(1))
    whole, last = core(x_t, core.initial_state(2), start_t)
    state, steps = core.initial_state(2), []
    for t in range(8):
        y, state = core(x_t[t:t + 1], state, start_t[t:t + 1])
        steps.append(y)
    torch.testing.assert_close(torch.cat(steps), whole)
    torch.testing.assert_close(tuple(state), tuple(last))


def test_dueling_heads_keep_the_mean_for_the_value() -> None:
    head, x = QHead([6, 7], 3, dueling=True, generator=seeded()), torch.randn(5, 6, generator=seeded())
    raw = head.layers(x)
    torch.testing.assert_close(head(x).mean(1), raw[:, 0])
    torch.testing.assert_close(head(x) - head(x)[:, :1], raw[:, 1:] - raw[:, 1:2])
    head = QHead([6], 3, num_atoms=4, dueling=True, generator=seeded())
    raw = head.layers(x).view(5, 4, 4)
    torch.testing.assert_close(head(x), raw[:, :1] + raw[:, 1:] - raw[:, 1:].mean(1, keepdim=True))


def test_the_layer_that_sees_observations_is_not_noisy() -> None:
    x = torch.randn(5, 6, generator=seeded())
    head = QHead([6, 7], 3, num_atoms=2, noisy=True, generator=seeded())
    assert [isinstance(layer, NoisyLinear) for layer in head.layers.children()] == [False, False, True]
    before = head(x)
    head.resample(seeded(5))
    assert not torch.equal(head(x), before)
    assert [isinstance(layer, NoisyLinear) for layer in QHead([6], 3, noisy=True).layers.children()] == [True]


def test_noise_by_hand() -> None:
    """f(x) = sign(x) sqrt(|x|); weight = mu + sigma * f(e_out) f(e_in), bias = mu + sigma * f(e_out)."""
    layer = NoisyLinear(2, 1, generator=seeded())
    layer.noise_in.copy_(torch.tensor([2.0, -3.0]))
    layer.noise_out.copy_(torch.tensor([0.5]))
    sigma = 0.5 / math.sqrt(2)
    noise = sigma * 0.5 * (2.0 * 1.0 - 3.0 * 4.0) + sigma * 0.5
    x = torch.tensor([1.0, 4.0])
    noisy = float(layer(x).detach())
    layer.eval()
    assert noisy - float(layer(x).detach()) == pytest.approx(noise)


def test_noise_is_renewed_when_asked() -> None:
    layer, x = NoisyLinear(3, 2, generator=seeded()), torch.ones(3)
    before = layer(x)
    assert torch.equal(layer(x), before)
    layer.resample(seeded(5))
    assert not torch.equal(layer(x), before)
    other = NoisyLinear(3, 2, generator=seeded())
    other.resample(seeded(5))
    assert torch.equal(layer(x), other(x))
    draws = NoisyLinear(100_000, 1, generator=seeded()).noise_in
    assert float(draws.square().mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)  # E f(e)^2 = E |e|


def test_batch_renorm_begins_as_batch_norm() -> None:
    ours, theirs = BatchRenorm(3), nn.BatchNorm1d(3, eps=1e-3, momentum=0.01)
    for i in range(5):
        x = torch.randn(6, 3, generator=seeded(i)) * 2 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.mean, theirs.running_mean)


def test_batch_renorm_trains_on_what_it_will_evaluate() -> None:
    """As long as r and d are within their bounds; then they are clipped."""
    norm = BatchRenorm(3, warmup=0)
    nn.init.normal_(norm.scale, generator=seeded(9))
    x = torch.randn(6, 3, generator=seeded())
    evaluated = norm.eval()(x)
    torch.testing.assert_close(norm.train()(x), evaluated)
    far = BatchRenorm(1, warmup=0, eps=0.0)
    got = far(torch.tensor([[90.0], [110.0]])).flatten().tolist()  # -1, 1 times 3 (10 clipped) plus 5 (100 clipped)
    assert got == pytest.approx([2.0, 8.0])


def test_batch_renorm_by_hand() -> None:
    """Batch 0, 4: mean 2, variance 4. Momentum 0.5: running mean 0 -> 1, running variance 1 -> 2.5."""
    norm = BatchRenorm(1, momentum=0.5, eps=0.0)
    assert norm(torch.tensor([[0.0], [4.0]])).flatten().tolist() == [-1.0, 1.0]
    assert (norm.mean.item(), norm.variance.item(), int(norm.num_updates)) == (1.0, 2.5, 1)
    evaluated = norm.eval()(torch.tensor([[1.0], [1.0 + math.sqrt(2.5)]])).flatten()
    assert evaluated.tolist() == pytest.approx([0.0, 1.0])
