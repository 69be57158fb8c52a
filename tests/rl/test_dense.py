"""The perceptron by hand against torch's own layers and autograd."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from velodrome.errors import UsageError
from velodrome.rl.dense import Mlp, plain


def in_torch(mlp: Mlp) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, bias in zip(mlp.weights, mlp.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        layer.weight.data, layer.bias.data = weight.detach().clone(), bias.detach().clone()
        layers += [layer, nn.Tanh() if mlp.activation == "tanh" else nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Of a loss that weights every output differently; weights and biases apart, each in order."""
    module.zero_grad()
    out = module(x)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    named = dict(module.named_parameters())
    pick = [p for kind in ("weight", "bias") for name, p in named.items() if kind in name]
    return [p.grad.clone() for p in pick if p.grad is not None]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 5, 2), (4, 16, 8, 3)])
def test_outputs_and_gradients_are_torchs(activation: str, sizes: tuple[int, ...]) -> None:
    mlp = Mlp(sizes, activation=activation, generator=torch.Generator().manual_seed(1)).double()
    theirs = in_torch(mlp)
    for batch in (7, 1, 7):
        x = torch.randn(batch, sizes[0], dtype=torch.float64, generator=torch.Generator().manual_seed(batch))
        torch.testing.assert_close(mlp(x), theirs(x), rtol=1e-12, atol=1e-12)
        with torch.no_grad():
            torch.testing.assert_close(mlp(x), theirs(x), rtol=1e-12, atol=1e-12)
        ours = gradients(mlp, x)
        assert len(ours) == 2 * (len(sizes) - 1)
        for mine, other in zip(ours, gradients(theirs, x), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_reach_the_input_where_it_wants_them(activation: str, frozen: bool) -> None:
    mlp = Mlp([2, 4, 1], activation=activation, generator=torch.Generator().manual_seed(1)).double()
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    mlp(x, frozen=frozen).square().sum().backward()
    parameters = [*mlp.weights, *mlp.biases]
    expected = torch.autograd.grad(plain(x, list(mlp.weights), list(mlp.biases), activation).square().sum(),
                                   [x, *parameters])
    torch.testing.assert_close(x.grad, expected[0])
    for p, gradient in zip(parameters, expected[1:], strict=True):
        if frozen:
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, gradient)


def test_a_late_backward_raises_and_gives_no_wrong_gradient() -> None:
    mlp = Mlp([2, 4, 1])
    first = mlp(torch.ones(3, 2)).sum()
    mlp(torch.zeros(3, 2))
    with pytest.raises(RuntimeError, match="before that"):
        first.backward()


def test_initial_weights_are_orthogonal_with_their_gains() -> None:
    mlp = Mlp([8, 8, 2], gain=0.01, generator=torch.Generator().manual_seed(1))
    hidden, last = (weight.detach() for weight in mlp.weights)
    torch.testing.assert_close(hidden @ hidden.t(), 2.0 * torch.eye(8))
    torch.testing.assert_close(last @ last.t(), 1e-4 * torch.eye(2))
    assert all(not bias.any() for bias in mlp.biases)


def test_copies_have_memory_of_their_own() -> None:
    mlp = Mlp([2, 4, 1])
    mlp(torch.ones(3, 2))
    for other in (copy.deepcopy(mlp), pickle.loads(pickle.dumps(mlp))):
        out = mlp(torch.ones(3, 2)).sum()
        other(torch.zeros(3, 2))
        out.backward()


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(UsageError, match="tahn"):
        Mlp([2, 2], activation="tahn")
