"""A layer's products in float32 and in bfloat16 against exact ones, and the choice between the two."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from tests.rl.runs import needs_bfloat16
from velodrome.envs.adapter import make_envs
from velodrome.rl import crossq, products, sac
from velodrome.rl.crossq_config import CrossQConfig
from velodrome.rl.dense import Mlp
from velodrome.rl.products import HalfProduct, Product, choose_product_precision
from velodrome.rl.renorm_mlp import RenormMlp
from velodrome.rl.sac_config import SACConfig

CPU = torch.device("cpu")
QUICK = {"learning_starts": 64, "batch_size": 64}
RUNS: list[Any] = [
    (crossq.learning, CrossQConfig(**QUICK, width=128, critic_width=128, precision="bfloat16")),
    (sac.learning, SACConfig(**QUICK, width=128, precision="bfloat16")),
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def distance(got: Tensor, expected: Tensor) -> float:
    """Relative to the length of what is expected."""
    return float(torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected))


@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize(("num_rows", "num_in", "num_out"), [(64, 128, 160), (64, 3, 128), (7, 24, 25), (30, 128, 1)])
@pytest.mark.parametrize("half", [False, pytest.param(True, marks=needs_bfloat16)])
def test_products_are_those_of_the_matrices(num_rows: int, num_in: int, num_out: int, out: bool, half: bool) -> None:
    x, weight, bias = normal(num_rows, num_in), normal(num_out, num_in, seed=1), normal(num_out, seed=2)
    gradient, into = normal(num_rows, num_out, seed=3), normal(num_out, num_in, seed=4)
    product = HalfProduct(num_rows, num_in, num_out) if half else Product()
    limit = 0.006 if half else 1e-5
    y, by_x = (torch.empty_like(like) if out else None for like in (gradient, x))
    got = product.forward(x, weight, bias, y)
    assert y is None or got is y
    assert distance(got, x @ weight.t() + bias) < limit
    added = into.clone()
    assert product.by_weight(gradient, x, added) is None
    assert distance(added - into, gradient.t() @ x) < limit + 1e-5
    alone = product.by_weight(gradient, x, None)
    assert alone is not None
    assert distance(alone, gradient.t() @ x) < limit
    got = product.by_input(gradient, weight, by_x)
    assert by_x is None or got is by_x
    assert got.dtype == torch.float32
    assert distance(got, gradient @ weight) < limit


@needs_bfloat16
@pytest.mark.parametrize("make", [
    lambda: Mlp([5, 160, 128, 2], activation="relu", generator=Generator().manual_seed(1)),
    lambda: RenormMlp([5, 160, 128, 2], generator=Generator().manual_seed(1)),
])
def test_a_networks_gradients_in_bfloat16_are_near_those_in_float32(make: Any) -> None:
    exact, rough = make(), make()
    rough.precision = "bfloat16"
    found = []
    for network in (exact, rough):
        x = normal(64, 5).requires_grad_()
        y = network(x)
        (y * normal(64, 2, seed=1)).sum().backward()
        found.append([y.detach(), x.grad, *(p.grad for p in network.parameters())])
    assert not torch.equal(found[0][0], found[1][0])
    for expected, got in zip(*found, strict=True):
        assert got.dtype == torch.float32
        # Some ReLUs flip; a bias whose effect the next renormalisation takes away has a gradient of rounding alone.
        assert float(torch.linalg.vector_norm(got - expected)) < 0.12 * float(torch.linalg.vector_norm(expected)) + 0.05


@pytest.mark.parametrize(("gain", "expected"), [(2.0, "bfloat16"), (1.1, "float32"), (0.5, "float32")])
def test_auto_takes_the_quicker(monkeypatch: pytest.MonkeyPatch, gain: float, expected: str) -> None:
    monkeypatch.setattr(products, "_gain", lambda rows, width: gain)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert choose_product_precision("auto", 256, 256, CPU) == expected
    assert choose_product_precision("auto", 256, 64, CPU) == "float32"
    assert choose_product_precision("auto", 32, 256, CPU) == "float32"
    for wanted, width, there in (
        ("auto", 256, "tf32"), ("auto", 64, "float32"), ("bfloat16", 64, "tf32"), ("float32", 256, "float32"),
    ):
        assert choose_product_precision(wanted, 256, width, torch.device("cuda")) == there
    assert choose_product_precision("bfloat16", 256, 64, CPU) == "bfloat16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_product_precision("auto", 256, 256, CPU) == "float32"


@needs_bfloat16
def test_the_gain_is_the_time_in_float32_over_that_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([3.0, 1.5])

    def timed(run: Any) -> float:
        run()
        return next(times)

    monkeypatch.setattr(products, "_time_s", timed)
    random = torch.get_rng_state()
    assert products._gain.__wrapped__(64, 128) == 2.0
    assert torch.equal(random, torch.get_rng_state())


@needs_bfloat16
@pytest.mark.parametrize(("learning", "config"), RUNS)
def test_a_resumed_run_keeps_the_first_choice(learning: Any, config: Any) -> None:
    with make_envs("Pendulum-v1", 1) as envs:
        first = learning(envs, config, steps=4_000, seed=1)
        first.update()
        state = copy.deepcopy(first.state())
        first.update()
    with make_envs("Pendulum-v1", 1) as envs:
        other = learning(envs, replace(config, precision="float32"), steps=4_000, seed=1)
        assert other.learner.precision == "float32"
        other.load(state)
        networks: list[nn.Module] = [other.policy.body, *other.learner.critics]
        assert {network.precision for network in networks} == {"bfloat16"}
        other.update()
    assert torch.equal(first.learner.critic_step.weights, other.learner.critic_step.weights)
    assert torch.equal(first.learner.policy_step.weights, other.learner.policy_step.weights)


@pytest.mark.parametrize(("learning", "config"), RUNS)
def test_a_run_on_a_cpu_leaves_a_gpus_products_as_they_are(learning: Any, config: Any) -> None:
    matmul: Any = torch.backends.cuda.matmul
    usual = matmul.fp32_precision
    try:
        for before in ("tf32", "ieee"):
            matmul.fp32_precision = before
            with make_envs("Pendulum-v1", 1) as envs:
                learning(envs, config, steps=4_000, seed=1)
            assert matmul.fp32_precision == before
    finally:
        matmul.fp32_precision = usual
